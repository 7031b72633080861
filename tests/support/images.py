"""Whether the engine and its test images are there; a test that needs them is skipped with a line that says so."""

from __future__ import annotations

import http.client
import json
import socket
from functools import cache
from typing import Any

import pytest

SOCKET = "/var/run/docker.sock"
BUSYBOX = "sagewright-test/busybox:1"
PYTHON = "sagewright-test/python:3.11"


class EngineConnection(http.client.HTTPConnection):
    """Plain HTTP over the engine's socket: how tests look behind the back of what they test."""

    def __init__(self, path: str = SOCKET) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self._path)


def engine(method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """One call: status and body."""
    connection = EngineConnection()
    try:
        payload = body if isinstance(body, bytes) or body is None else json.dumps(body)
        connection.request(method, path, payload, {"Content-Type": "application/json"} | (headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@cache
def missing(image: str = BUSYBOX) -> str:
    """Why the image cannot be used here; empty when it can."""
    try:
        status, _ = engine("GET", f"/images/{image}/json")
    except OSError as error:
        return f"no Docker engine answers at {SOCKET} ({error}): run scripts/engine"
    return "" if status == 200 else f"the engine has no image {image}: run scripts/images"


def need(image: str = BUSYBOX) -> None:
    if reason := missing(image):
        pytest.skip(reason)
