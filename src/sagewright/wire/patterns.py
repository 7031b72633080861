"""Java regular expressions of the service models as Python's, translated once each.

Owns: the translation and its cache. AWS matches whole values (`Matcher.matches`), and so do we.
Does not own: what is matched when (`validate`).

What differs between the dialects and occurs in models: `\\p{..}` classes, `\\w \\d \\s` being ASCII, `\\z`, a hyphen
after a class inside brackets, astral characters written as surrogate pairs, `.` not matching a carriage return.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

# Shown in messages as AWS wrote them, matched by an equivalent that cannot backtrack exponentially.
_LINEAR = {
    r"^[a-z0-9*](?:[._\-/a-z0-9*]?[a-z0-9*]+)*$": r"[a-z0-9*](?:[._\-/]?[a-z0-9*])*",
    r"[a-z0-9]([-a-z0-9]*[a-z0-9]){0,39}?": r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?",
    r"https://([.\-_a-zA-Z0-9]+/?){3,1016}": (
        r"https://(?=(?:[.\-_a-zA-Z0-9]/?){3})[.\-_a-zA-Z0-9]+(?:/[.\-_a-zA-Z0-9]+)*/?"
    ),
    r"^[ \t]*[\x20-\x7E]+([ \t]+[\x20-\x7E]+)*[ \t]*$": r"\t*[\x20-\x7E][\t\x20-\x7E]*",
    r"^[ \t]*[^\x00-\x1F:\x7F]+([ \t]+[^\x00-\x1F:\x7F]+)*[ \t]*$": (
        r"\t*[^\x00-\x1F:\x7F](?:\t|[^\x00-\x1F:\x7F])*"
    ),
}
_REPEATED_END = re.compile(r"(?<!\\)\$\{[0-9,]+\}")  # Java shrugs at a repeated `$`
_PAIR = re.compile(r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_CLASSES = {
    "Word": "\\w",  # Python's, which is exactly L, N and the underscore: far cheaper than their thousand ranges
    "Z": " \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000",
    "Zs": " \xa0\u1680\u2000-\u200a\u202f\u205f\u3000",
    "w": "a-zA-Z0-9_",
    "d": "0-9",
    "s": " \\t\\n\\x0b\\f\\r",
    "Alnum": "a-zA-Z0-9",
    "Alpha": "a-zA-Z",
    "Digit": "0-9",
    "Lower": "a-z",
    "Upper": "A-Z",
    "Punct": "!-/:-@\\[-`{-~",
    "Space": " \\t\\n\\x0b\\f\\r",
    "ASCII": "\\x00-\\x7f",
    "Graph": "!-~",
    "Print": " -~",
    "Blank": " \\t",
    "Cntrl": "\\x00-\\x1f\\x7f",
    "XDigit": "0-9a-fA-F",
}
_BRACKETS = re.compile(r"\[(?:\\.|[^\]\\])*\]")
_PLANES = (range(0x34000), range(0xE0000, 0xE01F0))  # all that Unicode has assigned outside private use


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> re.Pattern[str]:
    """For `fullmatch`. Raises re.error when the model's pattern is not one we can read."""
    if pattern in _LINEAR:
        return re.compile(_LINEAR[pattern])
    simpler = _REPEATED_END.sub("$", _PAIR.sub(_astral, pattern))
    return re.compile(_translate(_BRACKETS.sub(_words, simpler)))


def _words(brackets: re.Match[str]) -> str:
    """Letters, numbers and the underscore together are one class."""
    text = brackets[0]
    if "\\p{L}" in text and "\\p{N}" in text and ("_" in text or "\\p{P}" in text):
        return text.replace("\\p{L}", "\\p{Word}").replace("\\p{N}", "")
    return text


def _astral(pair: re.Match[str]) -> str:
    high, low = int(pair[1], 16), int(pair[2], 16)
    return f"\\U{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):08x}"


_TOKEN = re.compile(r"\\[pP]\{(\w+)\}|\\[pP](\w)|\\u[0-9a-fA-F]{4}|\\U[0-9a-f]{8}|\\.|.", re.DOTALL)


def _translate(pattern: str) -> str:
    """Token by token, knowing only whether a token stands inside brackets, and whether a class came before it."""
    out: list[str] = []
    inside = after_class = False
    for match in _TOKEN.finditer(pattern):
        token = match[0]
        name = match[1] or match[2] or _letter(token)
        if name:
            token = _class(name, negated=token[1].isupper(), inside=inside)
        elif inside and token == "-" and after_class:
            token = "\\-"
        elif token == "\\z":
            token = "\\Z"
        elif token == "[":
            token, inside = ("\\[" if inside else "["), True
        elif token == "]":
            inside = False
        elif token == "." and not inside:
            token = "[^\\n\\r]"
        out.append(token)
        after_class = bool(name)
    return "".join(out)


def _letter(token: str) -> str:
    """`w`, `d` or `s` for the shorthand classes, else nothing."""
    return token[1].lower() if token[0] == "\\" and token[1] in "wdsWDS" else ""


def _class(name: str, *, negated: bool, inside: bool) -> str:
    ranges = _CLASSES.get(name) or _category(name)
    if not inside:
        return f"[{'^' if negated else ''}{ranges}]"
    return _complement(ranges) if negated else ranges


@lru_cache(maxsize=64)
def _category(name: str) -> str:
    """`L`, `Pd` ... as ranges of characters."""
    found = [points for category, points in _categories().items() if category.startswith(name)]
    if not found:
        raise re.error(f"no character has the property {name}")
    return _ranges(sorted(point for points in found for point in points))


@lru_cache(maxsize=1)
def _categories() -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    category = unicodedata.category
    for plane in _PLANES:
        for point in plane:
            found.setdefault(category(chr(point)), []).append(point)
    return found


def _complement(ranges: str) -> str:
    inner = re.compile(f"[{ranges}]")
    if inner.match("\xe9") or inner.match("\u3000"):
        return _ranges([point for plane in _PLANES for point in plane if not inner.match(chr(point))])
    return _ranges([point for point in range(0x80) if not inner.match(chr(point))]) + "\\x80-\\U0010ffff"


def _ranges(points: list[int]) -> str:
    found: list[str] = []
    first = last = points[0]
    for point in [*points[1:], -1]:
        if point != last + 1:
            found.append(f"\\U{first:08x}-\\U{last:08x}")
            first = point
        last = point
    return "".join(found)
