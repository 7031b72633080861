"""Finding the operation of a REST request from its method, path, query string and headers, by the model alone.

Owns: URI templates and the choice between operations that share one.
Does not own: host names (`rest_xml.path_style`), reading members (`bindings`).

How one is chosen, most telling first:
    path       the template with the most literal text that matches
    markers    what the template's own query says: `?uploads`, `?list-type=2`
    needs      required query parameters and headers that are there: `uploadId`, `x-amz-copy-source`
So `PUT /b/k?uploadId=1` is an UploadPart that lacks its number, never a PutObject. A marker of another method
(`DELETE /b?versioning`) is refused: ignoring it would delete the bucket.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sagewright.wire.bindings import Query, percent_decoded
from sagewright.wire.shapes import Model, Operation

_LABEL = re.compile(r"\{([^}]+?)(\+?)\}")


@dataclass(frozen=True, slots=True)
class Route:
    """One operation's claim on requests."""

    operation: str
    markers: tuple[tuple[str, str], ...]  # query names with their fixed value, "" for any
    needs: tuple[tuple[str, str], ...]  # ("query" | "header", name)
    accepts: frozenset[str]  # every query name that the operation reads
    deprecated: bool

    def matches(self, query: Query) -> bool:
        return all(name in query and (not value or value in query[name]) for name, value in self.markers)

    def rank(self, query: Query, headers: Mapping[str, str]) -> tuple[int, int, int, bool]:
        met = sum(name in (query if where == "query" else headers) for where, name in self.needs)
        return len(self.markers), met, met - len(self.needs), not self.deprecated


@dataclass(frozen=True, slots=True)
class _Path:
    """The routes of one method and path template."""

    literal: int
    pattern: re.Pattern[str]
    labels: tuple[str, ...]
    routes: tuple[Route, ...]


class Router:
    """All routes of one service. `without` names operations that share every sign with another, wanted one."""

    def __init__(self, model: Model, without: Iterable[str] = ()) -> None:
        found: dict[tuple[str, str], list[Route]] = {}
        for name in model.operation_names:
            operation = model.operation(name)
            if operation is not None and name not in without:
                path, _, query = operation.uri.partition("?")
                found.setdefault((operation.method, path), []).append(_route(operation, query))
        self._paths: dict[str, list[_Path]] = {}
        for (method, path), routes in found.items():
            self._paths.setdefault(method, []).append(_path(path, routes))
        for paths in self._paths.values():
            paths.sort(key=lambda path: -path.literal)
        self._subresources = frozenset(
            name for routes in found.values() for route in routes for name, value in route.markers if not value
        )

    def find(
        self, method: str, raw_path: str, query: Query, headers: Mapping[str, str]
    ) -> tuple[str, dict[str, str]] | None:
        """The operation's name and its path labels, decoded once; None when there is none.

        Raises ValueError when a label is not UTF-8.
        """
        for path in self._paths.get(method, ()):
            match = path.pattern.fullmatch(raw_path)
            route = self._choose(path.routes, query, headers) if match else None
            if match and route:
                return route.operation, dict(zip(path.labels, map(percent_decoded, match.groups()), strict=True))
        return None

    def _choose(self, routes: tuple[Route, ...], query: Query, headers: Mapping[str, str]) -> Route | None:
        fitting = [route for route in routes if route.matches(query)]
        if not fitting:
            return None
        best = max(fitting, key=lambda route: route.rank(query, headers))
        strange = any(name in self._subresources and name not in best.accepts for name in query)
        return None if strange else best


def _route(operation: Operation, query: str) -> Route:
    markers = tuple((name, value) for name, _, value in (part.partition("=") for part in query.split("&")) if name)
    members = operation.input.members if operation.input else {}
    required = operation.input.required if operation.input else []
    reads = {m.wire_name or n for n, m in members.items() if m.location == "querystring"}
    needs = []
    for name in required:
        where = {"querystring": "query", "header": "header"}.get(members[name].location or "")
        wire = members[name].wire_name or name
        if where:
            needs.append((where, wire.lower() if where == "header" else wire))
    accepts = frozenset(reads | {name for name, _ in markers})
    return Route(operation.name, markers, tuple(needs), accepts, operation.deprecated)


def _path(template: str, routes: list[Route]) -> _Path:
    labels = tuple(label[1] for label in _LABEL.finditer(template))
    return _Path(len(_LABEL.sub("", template)), _regex(template), labels, tuple(routes))


def _regex(path: str) -> re.Pattern[str]:
    """A greedy label takes the rest, slashes included; others end at a slash. A slash at the end changes nothing."""
    parts: list[str] = []
    position = 0
    for label in _LABEL.finditer(path):
        parts.append(re.escape(path[position : label.start()]))
        parts.append("(.+)" if label[2] else "([^/]+)")
        position = label.end()
    parts.append(re.escape(path[position:]))
    return re.compile("".join(parts) + ("" if path.endswith(("+}", "/")) else "/?"), re.DOTALL)
