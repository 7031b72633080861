"""Folder images as rows: the name that jobs use, and the stored folder it means.

spec is `workloads.folder_images.to_row(image)`: {"name", "digest", "path", "entrypoint": [...], "requirements"}.
Adding an image under a name that is taken points the name at the new content; jobs keep what they were created with.
"""

from __future__ import annotations

from typing import Final

from sagewright.core.ids import Account, Key, Kind, Region, ResourceName

KIND: Final = Kind("image")


def key(account: Account, region: Region, name: str) -> Key:
    return Key(KIND, account, region, ResourceName(name))


def registry_host(account: str, region: str) -> str:
    """The host part of image names that mean this account's own registry."""
    return f"{account}.dkr.ecr.{region}.amazonaws.com"


def plain_name(image: str, account: str, region: str) -> str:
    """The name under which a folder image would be known: without our registry's host, without `:latest`."""
    name = image.removeprefix(registry_host(account, region) + "/")
    return name.removesuffix(":latest")
