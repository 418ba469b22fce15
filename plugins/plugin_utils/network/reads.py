# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the paths and variables that a Nix file reads, except the files that it imports.

Nix names the files that it evaluates, but not what these files read. A file is *bounded* if its text shows every such
read. In doubt it is not.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

_PATH = r"(?:[A-Za-z0-9._+-]*(?:/[A-Za-z0-9._+-]+)+/?|~(?:/[A-Za-z0-9._+-]+)+/?)"
_PATH_LITERAL = re.compile(rf"(?<![A-Za-z0-9._+\-/~])(?:{_PATH}(\$)?|[A-Za-z0-9._+-]*/(?=\$))")
_SEARCHED = re.compile(r"<([A-Za-z0-9._+-]+(?:/[A-Za-z0-9._+-]+)*)>")

# Functions that read during the evaluation. A path literal as argument says what is read.
_READER = re.compile(
    r"\b(readFile|readDir|readFileType|pathExists|importJSON|importTOML|fileContents|hashFile|filterSource"
    r"|findFile|listFilesRecursive|packagesFromDirectoryRecursive|pathIsDirectory|pathIsRegularFile|pathType"
    r"|cleanSource|cleanSourceWith|sourceByRegex|sourceFilesBySuffices|gitignoreSource|nix-gitignore|fileset"
    r"|storePath|exec|importNative|toPath|currentTime|nixPath|getFlake|getEnv"
    r"|fetchurl|fetchTarball|fetchGit|fetchMercurial|fetchTree|fetchClosure|fetchTarFromURL)\b"
)
_LITERAL_ARGUMENT = re.compile(rf"\s*\(?\s*{_PATH}(?![A-Za-z0-9._+\-/$])")
_FIXED_FETCH = re.compile(r"\s*\(?\s*(?:rec\s*)?\{[^{}]*\b(?:sha256|narHash|hash)\s*=\s*\"[^{}]*\}")
_VARIABLE_ARGUMENT = re.compile(r"\s*\(?\s*\"(\d+)\"")
_PATH_PRIMITIVE = re.compile(r"\bbuiltins\s*\.\s*path\b|\binherit\s*\(\s*builtins\s*\)[^;]*\bpath\b|\bpath\s*\{")
_LITERAL_PATH_ARGUMENT = re.compile(rf"[^{{}}]*\{{[^{{}}]*\bpath\s*=\s*{_PATH}\s*;[^{{}}]*\}}")
_HIDDEN_PRIMITIVE = re.compile(r"\bbuiltins\s*\.\s*[$\"]|=\s*builtins\b|\bbuiltins\b(?!\s*[.);])")
_UPWARD = re.compile(r"(^|/)\.\.(/|$)")


@dataclass
class Mentions:
    """What the text of a file mentions.

    :param paths: path literals; their content may be read or copied.
    :param strings: absolute paths in strings; a file there may be read.
    :param searched: names between `<` and `>`.
    :param variables: environment variables.
    :param bounded: whether the file can't read anything else.
    """

    paths: set[str] = field(default_factory=set)
    strings: set[str] = field(default_factory=set)
    searched: set[str] = field(default_factory=set)
    variables: set[str] = field(default_factory=set)
    bounded: bool = True


def mentions(text: str, directory: str) -> Mentions:
    """Find what a Nix file mentions.

    :param text: the file's text.
    :param directory: the directory for its relative paths.
    """
    found = Mentions()
    try:
        parts = _Splitter(text)
    except ValueError:
        found.bounded = False
        return found
    code, strings = "".join(parts.code), parts.strings
    for literal in _PATH_LITERAL.finditer(code):
        path = literal[0].rstrip("$")
        # `./a/${b}.nix` may be any file of ./a.
        path = os.path.dirname(path) if literal[1] and not path.endswith("/") else path
        found.paths.add(os.path.normpath(os.path.join(directory, Path(path).expanduser())))
    found.searched.update(_SEARCHED.findall(code))
    whole = [string.text for string in strings if not string.interpolated]
    found.strings.update(text for text in whole if text.startswith("/") and "\0" not in text)
    found.bounded = _readers_are_bounded(code, strings, found.variables)
    return found


def _readers_are_bounded(code: str, strings: list[_String], variables: set[str]) -> bool:
    if _HIDDEN_PRIMITIVE.search(code):
        return False
    if "keyFiles" in code and any(string.interpolated and string.text.startswith("/") for string in strings):
        return False
    # `./. + "/../x"` leaves the directory that the literal names.
    if any(_UPWARD.search(string.text) for string in strings):
        return False
    return all(_path_is_literal(code, primitive) for primitive in _PATH_PRIMITIVE.finditer(code)) and all(
        _argument_is_literal(code, reader, strings, variables) for reader in _READER.finditer(code)
    )


def _path_is_literal(code: str, primitive: re.Match[str]) -> bool:
    start = primitive.end() - primitive[0].endswith("{")
    return not primitive[0].startswith("inherit") and bool(_LITERAL_PATH_ARGUMENT.match(code, start))


def _argument_is_literal(code: str, reader: re.Match[str], strings: list[_String], variables: set[str]) -> bool:
    if reader[1] == "getEnv":
        argument = _VARIABLE_ARGUMENT.match(code, reader.end())
        if argument is None or strings[int(argument[1])].interpolated:
            return False
        variables.add(strings[int(argument[1])].text)
        return True
    literal = _FIXED_FETCH if reader[1].startswith("fetch") else _LITERAL_ARGUMENT
    return bool(literal.match(code, reader.end()))


@dataclass
class _String:
    text: str = ""
    interpolated: bool = False


_CODE = re.compile(r"#[^\n]*|/\*.*?\*/|''|[\"{}]|[^#/\"'{}]+|.", re.DOTALL)
_STRING = re.compile(r"\\.|\$(?=\")|\$[^{\"\\]|\$\{|\"|[^\"\\$]+|.", re.DOTALL)
_INDENTED = re.compile(r"'''|''\$|''\\.|''|\$\{|\$[^{']|[^'$]+|.", re.DOTALL)


class _Splitter:
    """Separates code from comments and strings. In the code, a string is replaced by its number in quotes."""

    def __init__(self, text: str) -> None:
        self.code: list[str] = []
        self.strings: list[_String] = []
        # The open brackets around the position: `{`, `${`, or a quote with its string.
        self._open: list[tuple[str, _String | None]] = []
        position = 0
        while position < len(text):
            kind, string = self._open[-1] if self._open else ("", None)
            token = {'"': _STRING, "''": _INDENTED}.get(kind, _CODE).match(text, position)
            if token is None:
                raise ValueError("unknown token")
            position = token.end()
            if string is None:
                self._in_code(token[0], kind)
            else:
                self._in_string(token[0], kind, string)
        if self._open:
            raise ValueError("unbalanced brackets or quotes")

    def _in_code(self, word: str, kind: str) -> None:
        if word in ('"', "''"):
            self.code.append(f' "{len(self.strings)}" ')
            self.strings.append(_String())
            self._open.append((word, self.strings[-1]))
        elif word == "{":
            self._open.append(("{", None))
            self.code.append(word)
        elif word == "}":
            if kind not in ("{", "${"):
                raise ValueError("unbalanced braces")
            self._open.pop()
            self.code.append(word if kind == "{" else " ) ")
        elif not word.startswith(("#", "/*")):
            self.code.append(word)

    def _in_string(self, word: str, kind: str, string: _String) -> None:
        if word == kind:
            self._open.pop()
        elif word == "${":
            string.interpolated = True
            self._open.append(("${", None))
            self.code.append(" ( ")
        elif not string.interpolated:
            string.text += word[1:] if len(word) == 2 and word[0] == "\\" else word
