"""What a container is given so that AWS clients of any age and language in it reach this installation. Pure.

    newer clients    AWS_ENDPOINT_URL                             straight to us
    all the others   HTTPS_PROXY, and a bundle that trusts us     AWS's hosts are answered by us, others by themselves

HTTP_PROXY is left out, because no client speaks to AWS without TLS unless it is told where to. Lower-case https_proxy
is left out, because gRPC obeys that one and no other, and the hosts of a job may talk by gRPC. The bundle holds this
machine's authorities besides ours, so that whoever else uses it (pip) trusts the rest of the world as before.

Owns: names and values. Does not own: keys (`app.compose`), the proxy and its authority (`gateway`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from sagewright.workloads.workload import Mount

CA_BUNDLE: Final = "/opt/sagewright/ca-bundle.pem"
KEYS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
ENDPOINTS: Final = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "S3_ENDPOINT_URL")
PROXY: Final = ("HTTPS_PROXY", "NO_PROXY")
BUNDLES: Final = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")

_THEIR_PROXY: Final = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
_HERE: Final = ("localhost", "127.0.0.1", "::1", "169.254.169.254", "169.254.170.2")


def client_settings(url: str, bundle: Path, peers: Iterable[str] = ()) -> dict[str, str]:
    """`url` is ours as the container reaches it, `bundle` a file of this machine, `peers` names of its job's hosts."""
    own = url.partition("://")[2].partition(":")[0]
    return {
        **dict.fromkeys(ENDPOINTS, url),
        "HTTPS_PROXY": url,
        "NO_PROXY": ",".join((*_HERE, own, *peers)),
        **dict.fromkeys(BUNDLES, str(bundle)),
    }


def beside(platform: Mapping[str, str], user: Mapping[str, str]) -> dict[str, str]:
    """What of ours stays beside the user's own settings, as the container sees it. Keys go together, and so does what
    belongs to the proxy: a session token beside another's access key would break both."""
    given = dict(platform)
    if any(name in user for name in KEYS):
        given = {name: value for name, value in given.items() if name not in KEYS}
    if any(name in user for name in _THEIR_PROXY):
        given = {name: value for name, value in given.items() if name not in PROXY}
    return {name: CA_BUNDLE if name in BUNDLES else value for name, value in given.items() if name not in user}


def bundle_mounts(platform: Mapping[str, str]) -> tuple[Mount, ...]:
    """Where the bundle that `platform` names as a file of this machine is seen in the container."""
    bundle = platform.get(BUNDLES[0])
    return (Mount(Path(bundle), CA_BUNDLE, read_only=True),) if bundle else ()
