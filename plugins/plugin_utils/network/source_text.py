# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes and edits the text of a `.network.yml` source.

An edit changes the lines of its option alone: comments, order, quotes and encrypted values of all others stay byte for
byte. Each result is read back. If it does not say what it should, the edit is refused.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError

_ENCRYPTED = "$ANSIBLE_VAULT;"
_COMMENT = re.compile(r"(?:^|\s)#")
_DASH = re.compile(r"[ \t]*-[ \t]+")
_NULL = "tag:yaml.org,2002:null"


class _Absent:
    """Stands for an option that the source shall not have."""


ABSENT = _Absent()


@dataclass(frozen=True)
class Edit:
    """A change of one option.

    :param path: the option, or the option and an entry of it, as in ``("arguments", "domain")``.
    :param value: plain values of JSON, or ABSENT to remove it.
    """

    path: tuple[str, ...]
    value: Any


def dump(options: Mapping[str, Any]) -> str:
    """Write options as YAML, one a line."""
    return str(
        yaml.dump(
            dict(options),
            Dumper=_Indented,
            sort_keys=False,
            allow_unicode=True,
            default_flow_style=False,
            width=float("inf"),
        )
    )


def edit(text: str, edits: Sequence[Edit], path: str) -> str:
    """Change options of a source.

    :param text: the source.
    :param path: its path, for messages.
    :raises OpsError: if it can't be edited without a risk for what else is in it.
    """
    for one in edits:
        before = _load(text, path)
        wanted = _applied(before, one)
        if repr(wanted) == repr(before):
            continue
        new = _changed(text, one, path)
        if not _says(new, wanted):
            raise _refused(path, one.path, "what else is in the source would change with it")
        text = new
    return text


def differing(before: str, after: str, path: str) -> list[str]:
    """Return the options in which two texts of a source differ."""
    old, new = _load(before, path), _load(after, path)
    return sorted(name for name in {**old, **new} if repr(old.get(name, ABSENT)) != repr(new.get(name, ABSENT)))


def hide(text: str, option: str, path: str, shown: Callable[[str], str]) -> str:
    """Replace the values of an option that is a mapping by texts.

    :param shown: returns the text for an entry.
    """
    known = _load(text, path).get(option)
    entries = known if isinstance(known, dict) else {}
    return edit(text, [Edit((option, str(name)), shown(str(name))) for name in entries], path)


@dataclass(frozen=True)
class _Tagged:
    """A value with a tag that only Ansible knows, such as ``!vault``."""

    tag: str
    value: Any


class _Reader(yaml.SafeLoader):
    """Reads tagged values without their meaning."""


def _tagged(reader: _Reader, _suffix: str, node: Node) -> _Tagged:
    if isinstance(node, SequenceNode):
        return _Tagged(str(node.tag), reader.construct_sequence(node, deep=True))
    if isinstance(node, MappingNode):
        return _Tagged(str(node.tag), reader.construct_mapping(node, deep=True))
    return _Tagged(str(node.tag), node.value)


_Reader.add_multi_constructor("!", _tagged)


class _Indented(yaml.SafeDumper):
    """Indents the elements of a list."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Ignore ``indentless``: PyYAML would not indent lists."""
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        """Write no anchors and aliases."""
        return True


def _load(text: str, path: str) -> dict[str, Any]:
    if text.lstrip().startswith(_ENCRYPTED):
        raise OpsError(
            f"{path} is encrypted as a whole, so it can't be edited",
            state="nothing was changed",
            next_step="Encrypt only what is secret in it (ansible-vault encrypt_string), or run:"
            f" ansible-vault edit {path}",
        )
    try:
        found = yaml.load(text, Loader=_Reader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _unreadable(path, str(error)) from error
    if not isinstance(found, dict):
        raise _unreadable(path, "it is not a mapping of options")
    return found


def _says(text: str, options: Mapping[str, Any]) -> bool:
    try:
        return repr(_load(text, "")) == repr(options)
    except OpsError:
        return False


def _root(text: str, path: str) -> MappingNode:
    root = yaml.compose(text, Loader=_Reader)
    if not isinstance(root, MappingNode):
        raise _unreadable(path, "it is not a mapping of options")
    return root


def _applied(options: Mapping[str, Any], one: Edit) -> dict[str, Any]:
    """Return the options as they are after an edit."""
    name, *rest = one.path
    if rest:
        inner = options.get(name) or {}
        if not isinstance(inner, Mapping):
            return {**options, name: {rest[0]: one.value}}
        below = _applied(inner, Edit(tuple(rest), one.value))
        return _applied(options, Edit((name,), below or ABSENT))
    if one.value is ABSENT:
        return {key: value for key, value in options.items() if key != name}
    return {**options, name: one.value}


def _changed(text: str, one: Edit, path: str) -> str:
    """Return the text after an edit, which is not certain to say what it should."""
    name, *rest = one.path
    root = _root(text, path)
    node = _value(root, name, path)
    if rest and isinstance(node, MappingNode):
        if one.value is ABSENT and len(node.value) == 1:
            return _changed(text, Edit((name,), ABSENT), path)
        return _in_mapping(text, node, Edit(tuple(rest), one.value), path)
    if rest:
        if node is not None and node.tag != _NULL:
            raise _refused(path, one.path, f"{name!r} is not a mapping there")
        return _changed(text, Edit((name,), {rest[0]: one.value}), path)
    return _in_mapping(text, root, one, path)


def _in_mapping(text: str, mapping: MappingNode, one: Edit, path: str) -> str:
    [name] = one.path
    node = _value(mapping, name, path)
    if mapping.flow_style:
        return _in_flow(text, mapping, one, path)
    if one.value is ABSENT:
        start, end = _lines_of(text, mapping, name, one, path)
        return text[:start] + text[end:]
    if node is None:
        return _appended(text, mapping, one)
    if isinstance(node, SequenceNode) and isinstance(one.value, list) and one.value:
        if node.flow_style:
            return _replaced(text, node, _flow_list(text, node, one, path), one, path)
        return _in_list(text, node, one, path)
    return _set(text, mapping, one, path)


def _set(text: str, mapping: MappingNode, one: Edit, path: str) -> str:
    """Replace the value of an entry that is written in lines of its own."""
    key, node = _entry(mapping, one.path[0])
    colon = text.index(":", key.end_mark.index) + 1
    start, end = node.start_mark.index, _end_of(text, node)
    if start == end:
        return f"{text[:colon]} {_flow(one.value)}{text[colon:]}"
    if not _is_in_lines(node):
        return _replaced(text, node, _flow(one.value), one, path)
    # The lines of the value go, and a comment beside its name stays.
    first = _line_start(text, start)
    if first < colon:
        raise _refused(path, one.path, "its value begins in the line of its name")
    return f"{text[:colon]} {_flow(one.value)}{text[colon:first]}{text[_line_end(text, end) :]}"


def _replaced(text: str, node: Node, new: str, one: Edit, path: str) -> str:
    start, end = node.start_mark.index, _end_of(text, node)
    is_block = isinstance(node, ScalarNode) and node.style in ("|", ">")
    if not is_block and "\n" in text[start:end] and _COMMENT.search(text[start:end]):
        raise _refused(path, one.path, "there are comments between its brackets")
    return text[:start] + new + text[end:]


def _in_flow(text: str, mapping: MappingNode, one: Edit, path: str) -> str:
    """Edit a mapping in braces. What stays keeps its text."""
    parts: list[str] = []
    for key, node in mapping.value:
        if key.value != one.path[0]:
            parts.append(text[key.start_mark.index : _end_of(text, node)])
        elif one.value is not ABSENT:
            parts.append(f"{_source(text, key)}: {_flow(one.value)}")
    if one.value is not ABSENT and _value(mapping, one.path[0], path) is None:
        parts.append(_flow({one.path[0]: one.value})[1:-1])
    return _replaced(text, mapping, f"{{{', '.join(parts)}}}", one, path)


def _flow_list(text: str, sequence: SequenceNode, one: Edit, path: str) -> str:
    known = [_source(text, node) for node in sequence.value]
    parts: list[str] = []
    for kind, first, last, start, end in _steps(sequence, one.value):
        parts += known[first:last] if kind == "equal" else map(_flow, one.value[start:end])
    return f"[{', '.join(parts)}]"


def _in_list(text: str, sequence: SequenceNode, one: Edit, path: str) -> str:
    """Edit a list with a line for each element. Comments between the elements stay."""
    spans: list[tuple[int, int]] = []
    for node in sequence.value:
        start, end = _line_start(text, node.start_mark.index), _line_end(text, _end_of(text, node))
        if not _DASH.fullmatch(text[start : node.start_mark.index]) or (spans and start < spans[-1][1]):
            raise _refused(path, one.path, "an element of it is not in lines of its own")
        spans.append((start, end))
    dash = text[spans[0][0] : sequence.value[0].start_mark.index]
    ending = _line_ending(text)
    result, position = text[: spans[0][0]], spans[0][0]
    for kind, first, last, start, end in _steps(sequence, one.value):
        # New elements come before a comment that follows the old ones: it may belong to the next element.
        if kind != "equal" and end > start:
            result = _ended(result, ending) + "".join(f"{dash}{_flow(new)}{ending}" for new in one.value[start:end])
        for begin, stop in spans[first:last]:
            result += text[position:begin]
            if kind == "equal":
                result = _ended(result, ending) + text[begin:stop]
            position = stop
    return result + text[position:]


def _steps(sequence: SequenceNode, wanted: list[Any]) -> list[tuple[str, int, int, int, int]]:
    known = [repr(_construct(node)) for node in sequence.value]
    return [*difflib.SequenceMatcher(a=known, b=[repr(one) for one in wanted], autojunk=False).get_opcodes()]


def _construct(node: Node) -> Any:
    reader = _Reader("")
    try:
        return reader.construct_object(node, deep=True)
    finally:
        reader.dispose()


def _appended(text: str, mapping: MappingNode, one: Edit) -> str:
    """Add an entry after the last one."""
    key, node = mapping.value[-1]
    end = _line_end(text, max(_end_of(text, node), key.end_mark.index))
    indent, ending = " " * key.start_mark.column, _line_ending(text)
    written = dump({one.path[0]: one.value}).removesuffix("\n")
    lines = "".join(f"{indent}{line}{ending}" for line in written.split("\n"))
    return _ended(text[:end], ending) + lines + text[end:]


def _lines_of(text: str, mapping: MappingNode, name: str, one: Edit, path: str) -> tuple[int, int]:
    """Return where the lines of an entry begin and end."""
    key, node = _entry(mapping, name)
    start = _line_start(text, key.start_mark.index)
    if text[start : key.start_mark.index].strip() or len(mapping.value) == 1:
        raise _refused(path, one.path, "it is not in lines of its own")
    return start, _line_end(text, max(_end_of(text, node), key.end_mark.index))


def _value(mapping: MappingNode, name: str, path: str) -> Node | None:
    found = [node for key, node in mapping.value if key.value == name]
    if len(found) > 1:
        raise _refused(path, (name,), "the source has it twice")
    return found[0] if found else None


def _entry(mapping: MappingNode, name: str) -> tuple[Node, Node]:
    [found] = [(key, node) for key, node in mapping.value if key.value == name]
    return found


def _end_of(text: str, node: Node) -> int:
    """Return where a value ends, without the comments and empty lines that PyYAML counts to it."""
    if isinstance(node, ScalarNode):
        end = int(node.end_mark.index)
        if node.style not in ("|", ">"):
            return end
        return int(node.start_mark.index) + len(text[node.start_mark.index : end].rstrip())
    if not _is_in_lines(node):
        return int(node.end_mark.index)
    if isinstance(node, SequenceNode):
        return _end_of(text, node.value[-1])
    key, value = node.value[-1]
    return max(_end_of(text, value), int(key.end_mark.index))


def _is_in_lines(node: Node) -> bool:
    """Return whether a value is a list or a mapping without brackets."""
    return isinstance(node, SequenceNode | MappingNode) and not node.flow_style and bool(node.value)


def _source(text: str, node: Node) -> str:
    return text[node.start_mark.index : _end_of(text, node)]


def _line_start(text: str, place: int) -> int:
    return text.rfind("\n", 0, place) + 1


def _line_end(text: str, place: int) -> int:
    """Return where the line of a place ends, with the end of the line and so with a comment."""
    found = text.find("\n", place)
    return len(text) if found < 0 else found + 1


def _line_ending(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _ended(text: str, ending: str) -> str:
    return text if not text or text.endswith("\n") else text + ending


def _flow(value: Any) -> str:
    """Write a value in one line that is right between brackets as well."""
    written = yaml.dump(
        [value], Dumper=_Indented, sort_keys=False, allow_unicode=True, default_flow_style=True, width=float("inf")
    )
    return str(written).strip()[1:-1]


def _unreadable(path: str, why: str) -> OpsError:
    return OpsError(
        f"{path} can't be read", output=why, state="nothing was changed", next_step="Correct it in your editor."
    )


def _refused(path: str, option: tuple[str, ...], why: str) -> OpsError:
    return OpsError(
        f"{'.'.join(option)} in {path} can't be changed safely: {why}",
        state="nothing was changed",
        next_step="Change it in your editor.",
    )
