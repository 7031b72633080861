"""A registry over HTTP as a test speaks to it: requests with a login, blobs and manifests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests

from sagewright.core.credentials import Keyring
from sagewright.core.registry_tokens import issue
from sagewright.store import registry_rows
from sagewright.store.db import Database

OCI_IMAGE = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
ACCOUNT = "000000000000"


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def password(data: Path) -> str:
    return issue(Keyring.open(data / "keys"), datetime.now(UTC))


def make_repository(data: Path, name: str, **settings: Any) -> None:
    """As ECR's CreateRepository does, without it."""
    store = Database.open(data / "sagewright.db")
    store.write(
        lambda tx: registry_rows.create_repository(
            tx, account=ACCOUNT, region="us-east-1", name=name, now=datetime.now(UTC), settings=settings
        )
    )
    store.close()


@dataclass
class Client:
    """Speaks to one repository of one server."""

    url: str
    password: str
    name: str
    session: requests.Session = field(default_factory=requests.Session)

    def __post_init__(self) -> None:
        self.session.auth = ("AWS", self.password)
        self.session.trust_env = False

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        """`path` is below /v2/NAME/, or whole."""
        where = path if path.startswith("/v2/") else f"/v2/{self.name}/{path}"
        return self.session.request(method, self.url + where, timeout=60, **options)

    def begin(self) -> str:
        begun = self.call("POST", "blobs/uploads/")
        assert begun.status_code == 202, begun.text
        return begun.headers["location"]

    def push_blob(self, data: bytes) -> str:
        done = self.call("PUT", self.begin(), params={"digest": digest(data)}, data=data)
        assert done.status_code == 201, done.text
        return digest(data)

    def push_manifest(self, document: Mapping[str, Any], reference: str = "") -> requests.Response:
        content = json.dumps(document).encode()
        headers = {"content-type": document["mediaType"]}
        return self.call("PUT", f"manifests/{reference or digest(content)}", data=content, headers=headers)

    def image(self, *layers: bytes, **more: Any) -> dict[str, Any]:
        """An image whose blobs are pushed; the manifest is not."""
        config = b'{"architecture":"amd64","os":"linux"}'
        parts = [{"mediaType": "x/y", "digest": self.push_blob(data), "size": len(data)} for data in (config, *layers)]
        manifest = {"schemaVersion": 2, "mediaType": OCI_IMAGE, "config": parts[0], "layers": parts[1:]}
        return manifest | more
