"""The user's table of images, and the names of AWS's own that can be had from AWS only.

    DATA/images.json    {"pytorch-training:2.1*": "my/pytorch:2", "763104351884/*": "..."}

A pattern is matched against NAME:TAG and against ACCOUNT/NAME:TAG of an ECR name; `*` stands for anything. The first
that matches wins. The file is read at each use: no restart is needed.

Owns: reading and matching. Does not own: what the answer means (`services.images`).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from sagewright.wire.faults import validation

_ECR: Final = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/(?P<rest>.+)"
)
_REFERENCE: Final = re.compile(r"(?P<name>[^:@]+)(?::(?P<tag>[^@]+))?(?:@(?P<digest>.+))?")

# AWS's algorithms whose programs are not public: no image of them can be built.
CLOSED: Final = frozenset(
    {
        "blazingtext",
        "factorization-machines",
        "forecasting-deepar",
        "image-classification",
        "image-classification-multilabel",
        "ipinsights",
        "kmeans",
        "knn",
        "lda",
        "linear-learner",
        "ntm",
        "object-detection",
        "object2vec",
        "pca",
        "randomcutforest",
        "semantic-segmentation",
        "seq2seq",
    }
)


@dataclass(frozen=True, slots=True)
class EcrName:
    """ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME[:TAG|@DIGEST]; without either the tag is `latest`."""

    account: str
    name: str
    reference: str  # tag or digest


def parse_ecr(image: str) -> EcrName | None:
    found = _ECR.fullmatch(image)
    return _ecr_name(found["account"], found["rest"]) if found else None


def parse_at(image: str, host: str, account: str) -> EcrName | None:
    """HOST/NAME[:TAG|@DIGEST], read as a name in the account's registry."""
    return _ecr_name(account, image.removeprefix(f"{host}/")) if host and image.startswith(f"{host}/") else None


def stand_in(table: Path | None, name: EcrName) -> str | None:
    """What the user's table says for this name. Raises ValidationException for a table that cannot be read."""
    plain = f"{name.name}{'@' if ':' in name.reference else ':'}{name.reference}"
    for pattern, image in _read(table).items():
        if fnmatchcase(plain, pattern) or fnmatchcase(f"{name.account}/{plain}", pattern):
            return image
    return None


def _read(table: Path | None) -> dict[str, str]:
    if table is None:
        return {}
    try:
        found = json.loads(table.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise validation(f"The table of images {table} cannot be read: {error}. Mend it, or remove it.") from None
    if not isinstance(found, dict) or not all(isinstance(each, str) and each for each in found.values()):
        raise validation(f'The table of images {table} must be a JSON object: {{"NAME:TAG": "image to use instead"}}.')
    return found


def _ecr_name(account: str, rest: str) -> EcrName | None:
    found = _REFERENCE.fullmatch(rest)
    return EcrName(account, found["name"], found["digest"] or found["tag"] or "latest") if found else None
