# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for the API of AWX: objects in memory, which answer as those of AWX do (awx/api in AWX).

It has what a setup needs: lists with pages and filters, objects with ``related`` and ``summary_fields``, what is
attached to them, surveys, nodes of workflows, roles, updates, and errors by field. It runs no job.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

ROOT = "/api/v2/"
ADMINISTRATOR = "administrator"
ENCRYPTED = "$encrypted$"

# The fields that name another object, and its kind.
_REFERENCES = {
    "organization": "organizations",
    "credential": "credentials",
    "credential_type": "credential_types",
    "default_environment": "execution_environments",
    "execution_environment": "execution_environments",
    "inventory": "inventories",
    "project": "projects",
    "source_project": "projects",
    "unified_job_template": "unified_job_templates",
    "webhook_credential": "credentials",
    "workflow_job_template": "workflow_job_templates",
}
_REQUIRED = {
    "credentials": ("name", "credential_type"),
    "execution_environments": ("name", "image"),
    "inventories": ("name", "organization"),
    "inventory_sources": ("name", "inventory", "source_project"),
    "job_templates": ("name", "inventory", "project", "playbook"),
    "notification_templates": ("name", "organization", "notification_type", "notification_configuration"),
    "projects": ("name",),
    "schedules": ("name", "rrule", "unified_job_template"),
    "workflow_job_templates": ("name",),
}
# With what a name is unique.
_SCOPES = {"execution_environments": None, "inventory_sources": "inventory", "schedules": "unified_job_template"}
_UNIFIED = ("job_templates", "workflow_job_templates", "projects", "inventory_sources", "workflow_approval_templates")
_TYPES = {"job_templates": "job_template", "workflow_job_templates": "workflow_job_template", "projects": "project"}
_ROLES = {
    "job_templates": ("admin", "execute", "read"),
    "workflow_job_templates": ("admin", "execute", "approval", "read"),
}
_SECRETS = {
    "inputs": ("ssh_key_data", "ssh_key_unlock", "become_password", "vault_password"),
    "notification_configuration": ("token",),
}
_EDGES = ("success_nodes", "failure_nodes", "always_nodes")


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, **fields: Any) -> None:
        super().__init__(status, fields)
        self.status, self.fields = status, fields


class Awx:
    """The objects of one AWX.

    :param playbooks: those of every repository.
    :param hosts: those of every inventory after its synchronization.
    :param writes: what was written: the method and the path.
    :param failing: what the next updates of sources say, which fail.
    :param stuck: whether no update ends.
    """

    def __init__(self) -> None:
        self.playbooks = [
            *("check.yml", "deploy.yml", "gc.yml", "generations.yml", "info.yml", "list.yml", "reboot.yml"),
            *("rollback.yml", "send_keys.yml", "unlock.yml"),
        ]
        self.hosts = ["target"]
        self.writes: list[tuple[str, str]] = []
        self.failing: str | None = None
        self.stuck = False
        self._kinds: dict[str, dict[int, dict[str, Any]]] = {}
        self._lists: dict[tuple[str, int, str], list[int]] = {}
        self._last = 0
        for name in ("Default", "Other"):
            self.add("organizations", name=name)
        for name in ("Machine", "Vault", "Source Control"):
            self.add("credential_types", name=name)
        self.add("instance_groups", name="near")

    def add(self, kind: str, /, **fields: Any) -> dict[str, Any]:
        """Make an object as a person does in AWX."""
        self._last += 1
        one = {"id": self._last, "type": _TYPES.get(kind, kind[:-1]), "url": f"{ROOT}{kind}/{self._last}/", **fields}
        for role in _ROLES.get(kind, ()):
            self._last += 1
            one.setdefault("roles", {})[f"{role}_role"] = self._last
        self._kinds.setdefault(kind, {})[one["id"]] = one
        return one

    def named(self, kind: str, name: str) -> dict[str, Any]:
        """Return the only object of a name."""
        [found] = [one for one in self._kinds.get(kind, {}).values() if one.get("name") == name]
        return found

    def names(self, kind: str) -> list[str]:
        """Return the names of all objects of a kind."""
        return sorted(str(one.get("name")) for one in self._kinds.get(kind, {}).values())

    def attached(self, kind: str, name: str, option: str) -> list[str]:
        """Return the names of what is attached to an object."""
        ids = self._lists.get((kind, self.named(kind, name)["id"], option), [])
        return sorted(str(one.get("name") or one.get("username")) for ident in ids if (one := self._any(ident)))

    def attach(self, kind: str, name: str, option: str, other: Mapping[str, Any]) -> None:
        """Attach an object to another one as a person does in AWX."""
        self._lists.setdefault((kind, self.named(kind, name)["id"], option), []).append(int(other["id"]))

    def members(self, kind: str, name: str, role: str, option: str) -> list[str]:
        """Return the names of the users or teams that have a role."""
        ids = self._lists.get(("roles", self.named(kind, name)["roles"][f"{role}_role"], option), [])
        return sorted(str(one.get("name") or one.get("username")) for ident in ids if (one := self._any(ident)))

    def _any(self, ident: int) -> dict[str, Any] | None:
        return next((ones[ident] for ones in self._kinds.values() if ident in ones), None)

    def answer(self, method: str, path: str, query: Mapping[str, str], values: Any, user: str) -> tuple[int, Any]:
        """Answer one request.

        :param path: below ``/api/v2/``.
        :param user: ``administrator``, or the name of the organization that the user administers.
        """
        if method != "GET":
            self.writes.append((method, path))
        kind, *rest = path.strip("/").split("/")
        if kind == "ping":
            return 200, {"version": "24.6.1"}
        if not rest:
            return self._collection(method, kind, query, values, user)
        ident = int(rest[0])
        if kind == "roles":
            return self._related(method, kind, ident, rest[1], values)
        one = self._kinds.get(kind, {}).get(ident)
        if one is None:
            raise Refusal(404, detail="Not found.")
        if method != "GET":
            self._check_user(kind, one, user)
        if len(rest) == 1:
            return self._object(method, kind, one, values)
        return self._below(method, kind, one, rest[1], values)

    def _collection(self, method: str, kind: str, query: Mapping[str, str], values: Any, user: str) -> tuple[int, Any]:
        if method == "POST":
            self._check_user(kind, values, user)
            return 201, self.shown(kind, self._create(kind, values))
        ones = [
            (where, one)
            for where in (_UNIFIED if kind == "unified_job_templates" else (kind,))
            for one in self._kinds.get(where, {}).values()
        ]
        rest = {name: value for name, value in query.items() if name not in ("page", "page_size", "order_by")}
        found = [
            self.shown(where, one) for where, one in ones if all(self._matches(one, *item) for item in rest.items())
        ]
        return 200, _page(kind, found, query)

    def _matches(self, one: Mapping[str, Any], name: str, value: str) -> bool:
        name = name.removesuffix("__exact")
        if name.startswith("or__"):
            return True
        first, _separator, more = name.partition("__")
        if more:
            other = self._any(one.get(first) or 0)
            return other is not None and self._matches(other, more, value)
        return str(one.get(first)) == value

    def _create(self, kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
        self._check(kind, values, None)
        one = self.add(kind, **values)
        if kind == "job_templates":
            one["organization"] = self._kinds["projects"][one["project"]]["organization"]
        if kind == "projects":
            one["status"] = "never updated"
            self._start("project_updates", one)
        if kind == "inventory_sources":
            one["status"] = "never updated"
        return one

    def _object(self, method: str, kind: str, one: dict[str, Any], values: Any) -> tuple[int, Any]:
        if method == "PATCH":
            self._check(kind, {**one, **values}, one)
            one.update(self._keeping(one, values))
        if method == "DELETE":
            del self._kinds[kind][one["id"]]
            for other, ones in self._kinds.items():
                # What belongs to it goes with it, and what refers to it loses that.
                for each in [
                    each
                    for each in ones.values()
                    if one["id"]
                    in (each.get("inventory"), each.get("unified_job_template"), each.get("workflow_job_template"))
                    and other in ("inventory_sources", "schedules", "workflow_job_template_nodes")
                ]:
                    del ones[each["id"]]
            return 204, None
        return 200, self.shown(kind, one)

    @staticmethod
    def _keeping(one: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values, with the secrets that the object has where they are sent back as AWX shows them."""
        return {
            name: {key: one[name][key] if each == ENCRYPTED else each for key, each in value.items()}
            if name in _SECRETS
            else value
            for name, value in values.items()
        }

    def _below(self, method: str, kind: str, one: dict[str, Any], option: str, values: Any) -> tuple[int, Any]:
        if option == "survey_spec":
            if method == "POST":
                if not values.get("spec"):
                    raise Refusal(400, error="'spec' doesn't contain any items.")
                one["survey_spec"] = values
            return 200, one.get("survey_spec", {})
        if option == "playbooks":
            return 200, self.playbooks
        if option == "update":
            return 202, self._start("project_updates" if kind == "projects" else "inventory_updates", one)
        if option == "stdout":
            return 200, one["stdout"]
        if option == "hosts":
            return 200, _page("hosts", [{"id": number, "name": name} for number, name in enumerate(self.hosts)], {})
        if option == "create_approval_template":
            template = self.add("workflow_approval_templates", **values)
            one["unified_job_template"] = template["id"]
            return 201, self.shown("workflow_approval_templates", template)
        if option == "workflow_nodes":
            if method == "POST":
                values = {**values, "workflow_job_template": one["id"]}
                return 201, self.shown(
                    "workflow_job_template_nodes", self._create("workflow_job_template_nodes", values)
                )
            nodes = self._kinds.get("workflow_job_template_nodes", {}).values()
            found = [
                self.shown("workflow_job_template_nodes", node)
                for node in nodes
                if node["workflow_job_template"] == one["id"]
            ]
            return 200, _page(option, found, {})
        return self._related(method, kind, one["id"], option, values)

    def _related(self, method: str, kind: str, ident: int, option: str, values: Any) -> tuple[int, Any]:
        ids = self._lists.setdefault((kind, ident, option), [])
        if method == "GET":
            found = [self.shown(option, one) for each in ids if (one := self._any(each))]
            return 200, _page(option, found, {})
        made = None
        if "id" not in values and option in _EDGES:
            workflow = self._kinds[kind][ident]["workflow_job_template"]
            made = self._create(kind, {**values, "workflow_job_template": workflow})
        elif "id" not in values:
            made = self._create(option, values)
        values = values if made is None else {"id": made["id"]}
        other = self._any(values["id"])
        if other is None:
            raise Refusal(400, msg="no such object")
        if values.get("disassociate"):
            ids.remove(values["id"])
            return 204, None
        same = [
            each
            for each in ids
            if option == "credentials"
            and (self._any(each) or {}).get("credential_type") == other.get("credential_type")
        ]
        if same and same != [values["id"]]:
            raise Refusal(400, error="Cannot assign multiple Machine credentials.")
        if values["id"] not in ids:
            ids.append(values["id"])
        return (204, None) if made is None else (201, self.shown(str(kind if option in _EDGES else option), made))

    def _start(self, kind: str, one: dict[str, Any]) -> dict[str, Any]:
        status = "pending" if self.stuck else "successful"
        if self.failing is not None and kind == "inventory_updates":
            status = "failed"
        one["status"] = status
        ended = {"failed": status == "failed", "finished": "2026-01-01T05:00:00Z", "scm_revision": "0" * 40}
        job = self.add(kind, status=status, stdout=self.failing or "done", **ended)
        one["current"] = job["id"]
        one["scm_revision"] = job["scm_revision"]
        return {**job, kind.removesuffix("s"): job["id"]}

    def _check(self, kind: str, values: Mapping[str, Any], one: Mapping[str, Any] | None) -> None:
        if wrong := {name: ["This field is required."] for name in _REQUIRED.get(kind, ()) if not values.get(name)}:
            raise Refusal(400, **wrong)
        for name, other in _REFERENCES.items():
            where = _UNIFIED if other == "unified_job_templates" else (other,)
            if values.get(name) and not any(values[name] in self._kinds.get(each, {}) for each in where):
                raise Refusal(400, **{name: [f'Invalid pk "{values[name]}" - object does not exist.']})
        if kind == "job_templates" and values["playbook"] not in self.playbooks:
            raise Refusal(400, playbook=["Playbook not found for project."])
        scope = _SCOPES.get(kind, "organization")
        for other_one in self._kinds.get(kind, {}).values():
            is_other = one is None or other_one["id"] != one["id"]
            is_there = "name" in values and other_one.get("name") == values["name"]
            if is_other and is_there and (scope is None or other_one.get(scope) == values.get(scope)):
                raise Refusal(400, __all__=[f"{kind} with this {scope} and name already exists."])

    def _check_user(self, kind: str, values: Mapping[str, Any], user: str) -> None:
        """Refuse what an administrator of another organization may not do."""
        if user == ADMINISTRATOR:
            return
        organization = self._organization(values)
        if organization is None or self._kinds["organizations"][organization]["name"] != user:
            raise Refusal(403, detail="You do not have permission to perform this action.")

    def _organization(self, values: Mapping[str, Any]) -> int | None:
        if values.get("organization"):
            return int(values["organization"])
        names = ("project", "inventory", "workflow_job_template", "unified_job_template")
        others = [self._any(values[name]) for name in names if values.get(name)]
        return next((self._organization(one) for one in others if one), None)

    def shown(self, kind: str, one: Mapping[str, Any]) -> dict[str, Any]:
        """Return an object as AWX shows it."""
        fields: dict[str, Any] = {}
        for name in _REFERENCES:
            if other := self._any(one.get(name) or 0):
                fields[name] = {"id": other["id"], "name": other.get("name")}
        if "roles" in one:
            fields["object_roles"] = {role: {"id": ident} for role, ident in one["roles"].items()}
        if "current" in one and self.stuck:
            fields["current_job"] = {"id": one["current"]}
        found = {name: value for name, value in one.items() if name not in ("roles", "current", "survey_spec")}
        for name, secrets in _SECRETS.items():
            if name in found:
                found[name] = {key: ENCRYPTED if key in secrets else value for key, value in found[name].items()}
        if kind == "workflow_job_template_nodes":
            found |= {edge: self._lists.get((kind, one["id"], edge), []) for edge in _EDGES}
        names = ("survey_spec", "update", "workflow_nodes", "labels", "credentials", "stdout")
        related = {name: f"{one['url']}{name}/" for name in names}
        if template := self._any(one.get("unified_job_template") or 0):
            related["unified_job_template"] = template["url"]
        return {**found, "summary_fields": fields, "related": related}


def _page(kind: str, found: list[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    # Small pages, so that every list of some length has several.
    size, number = min(int(query.get("page_size", 25)), 5), int(query.get("page", 1))
    last = size * number >= len(found)
    words = "&".join(f"{name}={value}" for name, value in query.items() if name != "page")
    following = None if last or not query else f"{ROOT}{kind}/?{words}&page={number + 1}"
    if not query:
        return {"count": len(found), "next": None, "previous": None, "results": found}
    return {
        "count": len(found),
        "next": following,
        "previous": None,
        "results": found[size * (number - 1) : size * number],
    }


@contextmanager
def serving(awx: Awx) -> Iterator[str]:
    """Serve the API of an AWX; :returns: its address. A token is the name of its user."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            address = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            values = json.loads(self.rfile.read(length) or b"{}")
            user = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            try:
                if not user:
                    raise Refusal(401, detail="Authentication credentials were not provided.")
                path = address.path.removeprefix(ROOT)
                status, told = awx.answer(self.command, path, dict(parse_qsl(address.query)), values, user)
            except Refusal as refusal:
                status, told = refusal.status, refusal.fields
            content = b"" if told is None else told.encode() if isinstance(told, str) else json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("X-API-Product-Name", "AWX")
            self.send_header("X-API-Product-Version", "24.6.1")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_DELETE = _answer

        def log_message(self, *_words: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
