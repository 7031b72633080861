"""XML elements by shape, both directions, compiled once per shape into closures.

Owns: XML ↔ Python values: lists (wrapped and flattened), maps, attributes, timestamps, blobs.
Does not own: documents and their roots (`rest_xml`, `query`), members bound to headers and paths.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sagewright.wire import timestamps
from sagewright.wire.bindings import scalar_formatter, scalar_parser
from sagewright.wire.shapes import Mismatch, Shape, lower_camel
from sagewright.wire.xml_tree import Node, escaped, escaped_attribute

Decoder = Callable[[Node], Any]
# Writes one value as element(s) of the given name.
Encoder = Callable[[list[str], str, Any], None]


class XmlShapes:
    """Compiled decoders and encoders of one service. `precise` timestamps always show milliseconds, as S3's do."""

    def __init__(self, *, precise: bool = False) -> None:
        self._decoders: dict[str, Decoder] = {}
        self._encoders: dict[str, Encoder] = {}
        self._precise = precise

    def decoder(self, shape: Shape) -> Decoder:
        if shape.type == "structure":
            return self._decoders.get(shape.name) or self._structure_decoder(shape)
        if shape.type == "list":
            return self._list_decoder(shape)
        if shape.type == "map":
            return self._map_decoder(shape)
        parse = scalar_parser(shape)
        return lambda node: _scalar(parse, node.text if shape.type == "string" else node.text.strip())

    def encoder(self, shape: Shape) -> Encoder:
        if shape.type == "structure":
            return self._encoders.get(shape.name) or self._structure_encoder(shape)
        if shape.type == "list":
            return self._list_encoder(shape)
        if shape.type == "map":
            return self._map_encoder(shape)
        return _write_text if shape.type == "string" else _scalar_encoder(self._formatter(shape))

    def _formatter(self, shape: Shape) -> Callable[[Any], str]:
        if shape.type == "timestamp" and self._precise and shape.traits.get("timestampFormat", "iso8601") == "iso8601":
            return _precise
        return scalar_formatter(shape, "iso8601")

    def _structure_decoder(self, shape: Shape) -> Decoder:
        elements: dict[str, tuple[str, Decoder]] = {}
        repeated: dict[str, tuple[str, Callable[[list[Node]], Any]]] = {}
        attributes: dict[str, str] = {}
        # In the cache before its members are looked at: shapes refer to themselves.
        self._decoders[shape.name] = decode = _structure_reader(elements, repeated, attributes)
        for name, member in shape.members.items():
            tag = element_name(name, member)
            if member.traits.get("xmlAttribute"):
                attributes[tag.rpartition(":")[2]] = name
            elif member.location is None and member.flattened:
                repeated[tag] = (name, self._flattened_decoder(member))
            elif member.location is None:
                elements[tag] = (name, self.decoder(member))
        return decode

    def _flattened_decoder(self, shape: Shape) -> Callable[[list[Node]], Any]:
        if shape.type == "map":
            return self._entries_decoder(shape)
        each = self.decoder(shape.member)
        return lambda nodes: _read_all(each, nodes)

    def _list_decoder(self, shape: Shape) -> Decoder:
        each, tag = self.decoder(shape.member), shape.member.wire_name or "member"
        return lambda node: _read_all(each, node.named(tag))

    def _map_decoder(self, shape: Shape) -> Decoder:
        read = self._entries_decoder(shape)
        return lambda node: read(node.named("entry"))

    def _entries_decoder(self, shape: Shape) -> Callable[[list[Node]], dict[str, Any]]:
        key, value = shape.key, shape.value
        key_tag, value_tag = key.wire_name or "key", value.wire_name or "value"
        read_key, read_value = self.decoder(key), self.decoder(value)

        def decode(entries: list[Node]) -> dict[str, Any]:
            found = {}
            for entry in entries:
                keys, values = entry.named(key_tag), entry.named(value_tag)
                if not keys or not values:
                    raise Mismatch(f"An entry of a map must hold {key_tag} and {value_tag}")
                found[read_key(keys[0])] = read_value(values[0])
            return found

        return decode

    def _structure_encoder(self, shape: Shape) -> Encoder:
        members: list[tuple[str, str, Encoder]] = []
        attributes: list[tuple[str, str]] = []
        namespace = _prefixed_namespace(shape)

        def encode(out: list[str], name: str, value: Mapping[str, Any]) -> None:
            shown = "".join(
                f' {wire}="{escaped_attribute(value[own])}"' for own, wire in attributes if value.get(own) is not None
            )
            out.append(f"<{name}{namespace}{shown}>")
            encode_members(out, value)
            out.append(f"</{name}>")

        def encode_members(out: list[str], value: Mapping[str, Any]) -> None:
            for own, wire, write in members:
                item = value.get(own)
                if item is not None:
                    write(out, wire, item)

        self._encoders[shape.name] = encode
        for name, member in shape.members.items():
            if member.traits.get("xmlAttribute"):
                attributes.append((name, member.wire_name or name))
            elif member.location is None:
                members.append((name, element_name(name, member), self.encoder(member)))
        return encode

    def _list_encoder(self, shape: Shape) -> Encoder:
        member = shape.member
        each, tag, flattened = self.encoder(member), member.wire_name or "member", shape.flattened

        def encode(out: list[str], name: str, value: Any) -> None:
            if not flattened:
                out.append(f"<{name}>")
            for item in value:
                each(out, name if flattened else tag, item)
            if not flattened:
                out.append(f"</{name}>")

        return encode

    def _map_encoder(self, shape: Shape) -> Encoder:
        key, value = shape.key, shape.value
        key_tag, value_tag = key.wire_name or "key", value.wire_name or "value"
        write_key, write_value = self.encoder(key), self.encoder(value)
        flattened = shape.flattened

        def encode(out: list[str], name: str, entries: Mapping[str, Any]) -> None:
            tag = name if flattened else "entry"
            if not flattened:
                out.append(f"<{name}>")
            for own, item in entries.items():
                out.append(f"<{tag}>")
                write_key(out, key_tag, own)
                write_value(out, value_tag, item)
                out.append(f"</{tag}>")
            if not flattened:
                out.append(f"</{name}>")

        return encode


def _structure_reader(
    elements: Mapping[str, tuple[str, Decoder]],
    repeated: Mapping[str, tuple[str, Callable[[list[Node]], Any]]],
    attributes: Mapping[str, str],
) -> Decoder:
    """Reads each member once, from the first element of its name, or from all of them for a flattened member."""

    def decode(node: Node) -> dict[str, Any]:
        found = {own: node.attributes[local] for local, own in attributes.items() if local in node.attributes}
        name = ""
        try:
            for child in node.children:
                entry = elements.get(child.tag)
                if entry is not None and entry[0] not in found:
                    name = entry[0]
                    found[name] = entry[1](child)
            for tag, (name, read_all) in repeated.items():
                if nodes := node.named(tag):
                    found[name] = read_all(nodes)
        except Mismatch as mismatch:
            mismatch.under(lower_camel(name))
            raise
        return found

    return decode


def element_name(name: str, member: Shape) -> str:
    """A member's element: a flattened list goes by its elements' name where they have one."""
    if member.type == "list" and member.flattened and member.member.wire_name:
        return member.member.wire_name
    return member.wire_name or name


def _scalar(parse: Callable[[str], Any], text: str) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        raise Mismatch(f"{text[:200]!r} must be {error}") from error


def _read_all(each: Decoder, nodes: list[Node]) -> list[Any]:
    found: list[Any] = []
    try:
        for node in nodes:
            found.append(each(node))
    except Mismatch as mismatch:
        mismatch.under(f"{len(found) + 1}.member")
        raise
    return found


def _write_text(out: list[str], name: str, value: str) -> None:
    out.append(f"<{name}>{escaped(value)}</{name}>")


def _scalar_encoder(form: Callable[[Any], str]) -> Encoder:
    def encode(out: list[str], name: str, value: Any) -> None:
        out.append(f"<{name}>{escaped(form(value))}</{name}>")

    return encode


def _precise(value: Any) -> str:
    return timestamps.to_precise_iso(timestamps.from_text(value) if isinstance(value, str) else value)


def _prefixed_namespace(shape: Shape) -> str:
    namespace = shape.traits.get("xmlNamespace")
    if isinstance(namespace, Mapping) and namespace.get("prefix"):
        return f' xmlns:{namespace["prefix"]}="{namespace["uri"]}"'
    return ""
