"""XML in: bytes to a tree of nodes, safely. XML out: text and attributes, escaped.

Owns: parsing without entities, and what XML 1.0 can and cannot carry. Does not own: meaning (`xml_shapes`).
A document type declaration is refused outright: with it go entity bombs and external entities. Prefixes are dropped,
for clients differ in them.
"""

from __future__ import annotations

import re
from xml.parsers import expat

MAX_DEPTH = 64
DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'

_TEXT = re.compile("[&<>\r\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")
_ATTRIBUTE = re.compile('[&<>"\r\n\t\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]')
_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}


class BadXml(ValueError):
    """Not well-formed, nested too deeply, or with a document type."""


class Node:
    """One element: local name, attributes by local name, text, children in order."""

    __slots__ = ("attributes", "children", "tag", "text")

    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag = tag
        self.attributes = attributes
        self.text = ""
        self.children: list[Node] = []

    def named(self, name: str) -> list[Node]:
        return [child for child in self.children if child.tag == name]


def parse(body: bytes) -> Node:
    """The root element. Raises BadXml."""
    builder = _Builder()
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.characters
    parser.StartDoctypeDeclHandler = builder.doctype
    try:
        parser.Parse(body, True)
    except expat.ExpatError as error:
        raise BadXml(str(error)) from error
    return builder.root.children[0]


class _Builder:
    def __init__(self) -> None:
        self.root = Node("", {})
        self._open = [self.root]
        self._texts: list[list[str]] = [[]]

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if len(self._open) > MAX_DEPTH:
            raise BadXml("nested too deeply")
        node = Node(_local(tag), {_local(name): value for name, value in attributes.items()})
        self._open[-1].children.append(node)
        self._open.append(node)
        self._texts.append([])

    def end(self, _tag: str) -> None:
        self._open.pop().text = "".join(self._texts.pop())

    def characters(self, text: str) -> None:
        self._texts[-1].append(text)

    def doctype(self, *_: object) -> None:
        raise BadXml("a document type declaration is not accepted")


def _local(name: str) -> str:
    return name.rpartition(":")[2]


def escaped(text: str) -> str:
    """Element text. What XML 1.0 has no way to carry goes out as a character reference, as S3 does."""
    return _TEXT.sub(_reference, text) if _TEXT.search(text) else text


def escaped_attribute(text: str) -> str:
    return _ATTRIBUTE.sub(_reference, text)


def legible(text: str) -> str:
    """Text that every XML parser accepts, for messages: what XML cannot carry becomes U+FFFD."""
    return _ILLEGAL.sub("\ufffd", text)


def _reference(match: re.Match[str]) -> str:
    return _NAMED.get(match[0]) or f"&#{ord(match[0])};"
