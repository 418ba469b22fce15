# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plain values in the syntax of Nix: as NixOps keeps the arguments of a network.

Reading evaluates nothing, since the text may be someone else's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

# The depth at which a value counts as no plain value.
_DEEPEST = 50

_TOKEN = re.compile(
    r"""
    (?P<space>(?:\s|\#[^\n]*)+)
    | "(?P<text>(?:[^"\\$]|\\.|\$(?!\{))*)"
    | (?P<number>-?[0-9]+(?:\.[0-9]+(?:[eE][-+]?[0-9]+)?)?(?![0-9A-Za-z_.]))
    | (?P<word>[A-Za-z_][A-Za-z0-9_'-]*)
    | (?P<mark>[][(){}=;])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}
_WORDS = {"true": True, "false": False, "null": None}
_QUOTED = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "${": "\\${"}

_Token = tuple[str, str]
_END: _Token = ("end", "")


class NoPlainValue(ValueError):
    """An expression that has to be evaluated."""


def read(text: str) -> Any:
    """Return the value of a text in Nix: a string, number, truth value, null, list or set of them.

    :raises NoPlainValue: if it is anything else, as a function, a path or a call.
    """
    tokens = _tokens(text)
    value = _value(next(tokens), tokens, _DEEPEST)
    if next(tokens) != _END:
        raise NoPlainValue("more than one value")
    return value


def write(value: Any) -> str:
    """Return a JSON value in Nix's syntax, in one line."""
    if isinstance(value, str):
        return '"' + re.sub(r'["\\\n\r\t]|\$\{', lambda found: _QUOTED[found[0]], value) + '"'
    if isinstance(value, list | tuple):
        return f"[ {' '.join(_element(one) for one in value)} ]"
    if isinstance(value, dict):
        return "{ " + "".join(f"{write(str(name))} = {write(one)}; " for name, one in value.items()) + "}"
    return json.dumps(value)


def _element(value: Any) -> str:
    # In a list, Nix would read the sign of a number as an operator.
    is_negative = isinstance(value, int | float) and not isinstance(value, bool) and value < 0
    return f"({write(value)})" if is_negative else write(value)


def _tokens(text: str) -> Iterator[_Token]:
    place = 0
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            raise NoPlainValue("not the text of a plain value")
        place = found.end()
        if found.lastgroup != "space":
            kind = str(found.lastgroup)
            yield kind, found[kind]
    while True:
        yield _END


def _value(token: _Token, tokens: Iterator[_Token], depth: int) -> Any:
    if depth == 0:
        raise NoPlainValue("too deep")
    match token:
        case "text", text:
            return _unescaped(text)
        case "number", number:
            return float(number) if "." in number else int(number)
        case "word", word if word in _WORDS:
            return _WORDS[word]
        case "mark", "[":
            return list(_list(tokens, depth))
        case "mark", "{":
            return dict(_set(tokens, depth))
        case "mark", "(":
            value = _value(next(tokens), tokens, depth - 1)
            if next(tokens) == ("mark", ")"):
                return value
    raise NoPlainValue("an expression")


def _list(tokens: Iterator[_Token], depth: int) -> Iterator[Any]:
    while (token := next(tokens, _END)) != ("mark", "]"):
        yield _value(token, tokens, depth - 1)


def _set(tokens: Iterator[_Token], depth: int) -> Iterator[tuple[str, Any]]:
    while (token := next(tokens, _END)) != ("mark", "}"):
        kind, name = token
        if kind not in ("text", "word") or next(tokens, _END) != ("mark", "="):
            raise NoPlainValue("a set with more than names and values")
        yield (_unescaped(name) if kind == "text" else name), _value(next(tokens, _END), tokens, depth - 1)
        if next(tokens, _END) != ("mark", ";"):
            raise NoPlainValue("an expression")


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda found: _ESCAPES.get(found[1], found[1]), text)
