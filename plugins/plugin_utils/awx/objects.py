# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings the objects of AWX to what definitions say."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils.awx import compare
from ansible_collections.nix.ops.plugins.plugin_utils.awx.api import Api
from ansible_collections.nix.ops.plugins.plugin_utils.awx.kinds import KINDS, MADE, TARGETS, Kind
from ansible_collections.nix.ops.plugins.plugin_utils.awx.manifest import Manifest, Place
from ansible_collections.nix.ops.plugins.plugin_utils.awx.updates import Updates
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink

# Fields that a definition may drop.
_DROPPABLE = ("credential", "webhook_credential", "webhook_service")
# Fields that AWX keeps as a text.
_TEXTS = ("extra_vars", "variables", "source_vars")
_EDGES = ("success_nodes", "failure_nodes", "always_nodes")

Definitions = Mapping[str, list[Mapping[str, Any]]]


class Objects:
    """Objects of one organization.

    :param organization: the organization, as AWX answers it.
    :param before: what an earlier setup has made.
    :param updates: None for a trial, which changes nothing and only says what would change.
    :param say: called with a line for each change.
    :param new_secrets: whether to write secrets that AWX already has.
    """

    def __init__(
        self,
        api: Api,
        organization: dict[str, Any],
        before: Manifest,
        *,
        updates: Updates | None,
        say: LineSink,
        new_secrets: bool = False,
    ) -> None:
        self._api = api
        self._before = before
        self._updates = updates
        self._say = say
        self._new_secrets = new_secrets
        self.organization = organization
        self._found: dict[tuple[str, str], dict[str, Any]] = {
            ("organizations", str(organization["name"])): organization
        }
        self._named: set[tuple[str, str]] = set()
        self._made: set[tuple[str, str]] = set()
        self._attached: dict[Place, tuple[str, ...]] = {}
        self.changes: list[str] = []

    @property
    def manifest(self) -> Manifest:
        """What was made until now, with what an earlier setup has made."""
        return Manifest(frozenset(self._made), self._attached)

    def bring(self, definitions: Definitions) -> None:
        """Make and change objects, and remove those that an earlier setup has made and no definition names.

        :raises OpsError: if AWX refuses something.
        """
        names: set[tuple[str, str]] = set()
        for path, kind in MADE.items():
            for entry in definitions.get(kind.definitions) or []:
                names.add((path, str(entry["name"])))
                self._object(path, kind, entry)
        self._roles(definitions.get("controller_roles") or [], names)
        # In the reverse order nothing refers to what is removed.
        for path, kind in reversed(MADE.items()):
            for name in sorted(one for where, one in self._before.made if where == path):
                if (path, name) in self._named:
                    # A credential whose secret is not given again.
                    self._made.add((path, name))
                elif (path, name) not in names:
                    self._remove(path, kind, name)

    def id_of(self, path: str, name: str) -> int:
        """Return the id of an object that the definitions have."""
        return int(self._need(path, name)["id"])

    def _object(self, path: str, kind: Kind, entry: Mapping[str, Any]) -> None:
        name = str(entry["name"])
        wanted = self._fields(path, kind, entry)
        scope = wanted.get(kind.scope) if kind.scope else None
        if kind.scope == "organization":
            # AWX gives a job template the organization of its project.
            scope = scope or self.organization["id"]
        there = self._look_up(path, name, scope)
        if there is None or (path, name) in self._before.made:
            self._made.add((path, name))
        if there:
            self._drop_references(path, kind, there, wanted)
        if path == "job_templates" and self._updates:
            self._updates.playbook(int(wanted["project"]), str(entry["project"]), str(wanted["playbook"]))
        changed = self._write(path, kind, name, there, wanted)
        if path == "projects" and self._updates:
            self._updates.project(self._found[path, name], changed=bool(changed))
        one = self._found[path, name]
        for option, other in kind.attached.items():
            others = {str(each): other for each in entry.get(option) or []}
            self._named |= {(path_of, each) for each, path_of in others.items()}
            self._attach((path, name, option), f"{path}/{one['id']}/{option}/", one, others)
        if entry.get("survey_spec"):
            self._survey(path, one, entry["survey_spec"])
        if entry.get("workflow_nodes"):
            self._nodes(one, entry["workflow_nodes"])

    def _fields(self, path: str, kind: Kind, entry: Mapping[str, Any]) -> dict[str, Any]:
        wanted: dict[str, Any] = {}
        for option, value in entry.items():
            if option in kind.left_out or option in kind.attached:
                continue
            if option in kind.references:
                self._named.add((kind.references[option], str(value)))
                wanted[option] = self._need(kind.references[option], str(value))["id"] if value else None
            else:
                wanted[option] = value
            if value and option in _DROPPABLE:
                self._attached[path, str(entry["name"]), option] = (str(value),)
        return wanted

    def _drop_references(self, path: str, kind: Kind, there: Mapping[str, Any], wanted: dict[str, Any]) -> None:
        """Drop what an earlier setup has put into a field, unless someone has put something else there since."""
        for option in _DROPPABLE:
            ours = self._before.attached.get((path, str(there["name"]), option))
            named = (there.get("summary_fields") or {}).get(option) or {}
            now = named.get("name") if option in kind.references else there.get(option)
            if ours and option not in wanted and now in ours:
                wanted[option] = None if option in kind.references else ""

    def _write(
        self, path: str, kind: Kind, name: str, there: Mapping[str, Any] | None, wanted: Mapping[str, Any]
    ) -> list[str]:
        if there is None:
            self._change(f"create the {kind.word} {name}")
            made = self._do("POST", f"{path}/", _as_texts(wanted))
            self._found[path, name] = made or {"id": 0, "name": name, **wanted}
            return [*wanted]
        changed = compare.differing(wanted, there, kind.secret, new=self._new_secrets)
        if changed:
            self._change(f"change the {kind.word} {name}: {', '.join(changed)}")
            values = _as_texts({option: wanted[option] for option in changed})
            if kind.secret in values:
                known = there.get(kind.secret) or {}
                values[kind.secret] = compare.with_secrets(values[kind.secret], known, new=self._new_secrets)
            self._found[path, name] = self._do("PATCH", f"{path}/{there['id']}/", values) or dict(there)
        return changed

    def _attach(self, place: Place, url: str, owner: Mapping[str, Any], wanted: Mapping[str, str]) -> None:
        """Attach objects to one, and detach those that an earlier setup has attached.

        :param wanted: for each name the path of its kind.
        """
        ours = self._before.attached.get(place, ())
        if not wanted and not ours:
            return
        there = {_name(one): int(one["id"]) for one in self._api.all(url)} if owner["id"] else {}
        word = f"{place[1]} ({place[2]})"
        for name in ours:
            if name not in wanted and name in there:
                self._change(f"detach {name} from {word}")
                self._do("POST", url, {"id": there[name], "disassociate": True})
        for name, path in wanted.items():
            if name not in there:
                self._change(f"attach {name} to {word}")
                self._do("POST", url, self._reference(path, name))
        self._attached[place] = tuple(name for name in wanted if name in ours or name not in there)

    def _reference(self, path: str, name: str) -> dict[str, Any]:
        """Return what AWX takes for an object to attach. It makes a label that is missing."""
        if path != "labels":
            return {"id": self._need(path, name)["id"]}
        label = self._look_up(path, name, self.organization["id"])
        return {"id": label["id"]} if label else {"name": name, "organization": self.organization["id"]}

    def _survey(self, path: str, owner: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        url = f"{path}/{owner['id']}/survey_spec/"
        there = self._api.get(url) if owner["id"] else {}
        if not compare.same(wanted, there, merged=True) or len(there["spec"]) != len(wanted["spec"]):
            self._change(f"change the survey of {owner['name']}")
            self._do("POST", url, wanted)

    def _nodes(self, workflow: Mapping[str, Any], wanted: Sequence[Mapping[str, Any]]) -> None:
        place = ("workflow_job_templates", str(workflow["name"]), "workflow_nodes")
        url = f"workflow_job_templates/{workflow['id']}/workflow_nodes/"
        there = {str(one["identifier"]): one for one in self._api.all(url)} if workflow["id"] else {}
        names = [str(node["identifier"]) for node in wanted]
        for name in self._before.attached.get(place, ()):
            if name not in names and name in there:
                self._change(f"remove the node {name} of {place[1]}")
                self._do("DELETE", f"workflow_job_template_nodes/{there[name]['id']}/")
        ids = {name: int(one["id"]) for name, one in there.items()}
        for node in wanted:
            name = str(node["identifier"])
            # A workflow launches a node at once that follows no other, so it is created together with its edge.
            before = [
                f"workflow_job_template_nodes/{ids[str(one['identifier'])]}/{edge}/"
                for one in wanted
                for edge in _EDGES
                if str(one["identifier"]) in ids and name in _following(one, edge)
            ]
            ids[name] = self._node([*before, url][0], place[1], node, there.get(name))
        for node in wanted:
            self._edges(node, there.get(str(node["identifier"])) or {}, ids)
        self._attached[place] = tuple(names)

    def _node(self, url: str, workflow: str, node: Mapping[str, Any], there: Mapping[str, Any] | None) -> int:
        name, template = str(node["identifier"]), node["unified_job_template"]
        is_approval = template["type"] == "workflow_approval"
        wanted: dict[str, Any] = {"identifier": name}
        if not is_approval:
            wanted["unified_job_template"] = self._need("job_templates", str(template["name"]))["id"]
        if there is None:
            self._change(f"create the node {name} of {workflow}")
            there = self._do("POST", url, wanted) or {"id": 0}
        elif changed := compare.differing(wanted, there, None, new=False):
            self._change(f"change the node {name} of {workflow}: {', '.join(changed)}")
            self._do("PATCH", f"workflow_job_template_nodes/{there['id']}/", wanted)
        if is_approval:
            self._approval(there, workflow, {key: template[key] for key in ("name", "description", "timeout")})
        return int(there["id"])

    def _approval(self, node: Mapping[str, Any], workflow: str, wanted: Mapping[str, Any]) -> None:
        if not node.get("unified_job_template"):
            url = f"workflow_job_template_nodes/{node['id']}/create_approval_template/"
            self._do("POST", url, wanted)
            return
        url = f"workflow_approval_templates/{node['unified_job_template']}/"
        if changed := compare.differing(wanted, self._api.get(url), None, new=False):
            self._change(f"change the approval of {workflow}: {', '.join(changed)}")
            self._do("PATCH", url, wanted)

    def _edges(self, node: Mapping[str, Any], there: Mapping[str, Any], ids: Mapping[str, int]) -> None:
        name = str(node["identifier"])
        for edge in _EDGES:
            for following in _following(node, edge):
                follows = ids[following]
                if follows not in there.get(edge, ()):
                    self._change(f"let {following} follow {name} ({edge})")
                    self._do("POST", f"workflow_job_template_nodes/{ids[name]}/{edge}/", {"id": follows})

    def _roles(self, entries: Iterable[Mapping[str, Any]], names: Iterable[tuple[str, str]]) -> None:
        there = set(names)
        wanted: dict[Place, dict[str, str]] = {
            place: {} for place in self._before.attached if "_role/" in place[2] and place[:2] in there
        }
        for entry in entries:
            targets = [(path, str(name)) for option, path in TARGETS.items() for name in entry.get(option) or []]
            for path, name in targets:
                for members in ("teams", "users"):
                    place = (path, name, f"{entry['role']}_role/{members}")
                    wanted.setdefault(place, {}).update({str(one): members for one in entry.get(members) or []})
        for place, granted in sorted(wanted.items()):
            owner = self._need(*place[:2])
            role, kind = place[2].split("/")
            known = (owner.get("summary_fields") or {}).get("object_roles") or {}
            url = f"roles/{known[role]['id'] if role in known else 0}/{kind}/"
            self._attach(place, url, owner, granted)

    def _remove(self, path: str, kind: Kind, name: str) -> None:
        query: dict[str, Any] = {"name": name}
        if kind.scope:
            # Some kinds are in an organization by what they belong to.
            field = kind.scope if kind.scope == "organization" else f"{kind.scope}__organization"
            query[field] = self.organization["id"]
        found = self._api.all(f"{path}/", **query)
        if len(found) > 1:
            raise _several(len(found), name, kind)
        for there in found:
            self._change(f"remove the {kind.word} {name}")
            self._do("DELETE", f"{path}/{there['id']}/")

    def _need(self, path: str, name: str) -> dict[str, Any]:
        """Return an object, of this organization if it has one of the name."""
        kind = KINDS[path]
        scope = self.organization["id"] if kind.scope == "organization" else None
        found = self._look_up(path, name, scope)
        if found is None and path == "job_templates":
            found = self._look_up("workflow_job_templates", name, scope)
        if found is None and scope is not None and path not in TARGETS.values():
            found = self._look_up(path, name, None)
        if found is None:
            raise OpsError(
                f"AWX has no {kind.word} {name!r}, or does not show it to this user",
                next_step="Create it in AWX, or correct the variable that names it.",
            )
        return found

    def _look_up(self, path: str, name: str, scope: Any) -> dict[str, Any] | None:
        if (path, name) in self._found:
            return self._found[path, name]
        kind = KINDS[path]
        query: dict[str, Any] = {"username" if path == "users" else "name": name}
        if scope == 0:
            # What it belongs to is not made yet.
            return None
        if scope is not None and kind.scope:
            query[kind.scope] = scope
        found = self._api.all(f"{path}/", **query)
        if len(found) > 1:
            raise _several(len(found), name, kind)
        if found:
            self._found[path, name] = found[0]
        return found[0] if found else None

    def _change(self, line: str) -> None:
        self.changes.append(line)
        self._say(line)

    def _do(self, method: str, url: str, values: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """Write to AWX; in a trial nothing."""
        if self._updates is None:
            return None
        if method == "DELETE":
            self._api.delete(url)
            return None
        done = self._api.post(url, values or {}) if method == "POST" else self._api.patch(url, values or {})
        return done if isinstance(done, dict) else None


def _several(count: int, name: str, kind: Kind) -> OpsError:
    return OpsError(f"AWX has {count} objects of the name {name!r} ({kind.word})", next_step="Rename one of them.")


def _following(node: Mapping[str, Any], edge: str) -> list[str]:
    """Return the identifiers of the nodes that follow a node."""
    return [str(one["identifier"]) for one in node.get("related", {}).get(edge) or []]


def _name(one: Mapping[str, Any]) -> str:
    return str(one.get("username") or one.get("name"))


def _as_texts(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: json.dumps(value) if name in _TEXTS and isinstance(value, Mapping) else value
        for name, value in values.items()
    }
