"""FilterLogEvents' filterPattern: which messages are wanted. Pure.

    error            every word must be in the message           "disk full"   a phrase, white space included
    error timeout    both                                        -debug        must not be in it
    ?error ?warn     any of them; ignored beside other terms, as on AWS

Case-sensitive. Source: "Filter pattern syntax for metric filters, subscription filters, filter log events", CloudWatch
Logs User Guide. Patterns over JSON, space-delimited fields and regular expressions are refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from sagewright.wire.faults import ApiFault

Filter = Callable[[bytes], bool]

_TERM: Final = re.compile(r'([-?]?)(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))(?:\s+|$)')
_ESCAPED: Final = re.compile(r"\\(.)")
_OTHER_SYNTAX: Final = {"{": "JSON", "[": "space-delimited", "%": "regular expression"}


def compile_pattern(pattern: str) -> Filter:
    """Raises ApiFault InvalidParameterException."""
    wanted, unwanted, either = _terms(pattern.strip())

    def matches(message: bytes) -> bool:
        if not all(term in message for term in wanted) or any(term in message for term in unwanted):
            return False
        return not either or any(term in message for term in either)

    if wanted or unwanted:
        either = []
    return matches


def _terms(pattern: str) -> tuple[list[bytes], list[bytes], list[bytes]]:
    if syntax := _OTHER_SYNTAX.get(pattern[:1]):
        raise _refused(pattern, f"{syntax} patterns are not supported")
    found: dict[str, list[bytes]] = {"": [], "-": [], "?": []}
    position = 0
    while position < len(pattern):
        term = _TERM.match(pattern, position)
        if term is None:
            raise _refused(
                pattern, f"a quotation mark is not closed, or touches a word, near {pattern[position:][:20]!r}"
            )
        sign, phrase, word = term.groups()
        found[sign].append((_ESCAPED.sub(r"\1", phrase) if word is None else word).encode())
        position = term.end()
    return found[""], found["-"], found["?"]


def _refused(pattern: str, why: str) -> ApiFault:
    return ApiFault(
        "InvalidParameterException",
        f'Invalid filter pattern {pattern[:100]!r}: {why}. Supported are words, "quoted phrases", -word and ?word.',
    )
