# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of objects in AWX that definitions name.

Definitions have the options of the modules of awx.awx.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_NOTIFICATIONS = {
    f"notification_templates_{event}": "notification_templates" for event in ("started", "success", "error")
}


@dataclass(frozen=True)
class Kind:
    """A kind of objects.

    :param word: what one of them is called in messages.
    :param definitions: the list of definitions.
    :param scope: the field with which a name is unique; None if it is unique by itself.
    :param references: the fields that name one other object, and its kind.
    :param attached: the fields that name a list of other objects, and their kind.
    :param secret: the field whose secrets AWX does not tell.
    :param left_out: options of a definition that AWX does not keep in the object.
    """

    word: str
    definitions: str = ""
    scope: str | None = "organization"
    references: Mapping[str, str] = field(default_factory=dict)
    attached: Mapping[str, str] = field(default_factory=dict)
    secret: str | None = None
    left_out: tuple[str, ...] = ()


_ORGANIZATION = {"organization": "organizations"}

# By the path in the API, in the order in which one object refers to another.
KINDS: Mapping[str, Kind] = {
    "organizations": Kind("organization", scope=None),
    "credential_types": Kind("credential type", scope=None),
    "instance_groups": Kind("instance group", scope=None),
    "labels": Kind("label", references=_ORGANIZATION),
    "users": Kind("user", scope=None),
    "teams": Kind("team", references=_ORGANIZATION),
    "credentials": Kind(
        "credential",
        "controller_credentials",
        references={**_ORGANIZATION, "credential_type": "credential_types"},
        secret="inputs",
    ),
    "execution_environments": Kind(
        "execution environment",
        "controller_execution_environments",
        scope=None,
        references={**_ORGANIZATION, "credential": "credentials"},
    ),
    "projects": Kind(
        "project",
        "controller_projects",
        references={
            **_ORGANIZATION,
            "credential": "credentials",
            "default_environment": "execution_environments",
        },
        left_out=("update_project",),
    ),
    "inventories": Kind(
        "inventory",
        "controller_inventories",
        references=_ORGANIZATION,
        attached={"instance_groups": "instance_groups"},
    ),
    "inventory_sources": Kind(
        "inventory source",
        "controller_inventory_sources",
        scope="inventory",
        references={
            "inventory": "inventories",
            "source_project": "projects",
            "execution_environment": "execution_environments",
        },
        left_out=("organization",),
    ),
    "notification_templates": Kind(
        "notification template",
        "controller_notifications",
        references=_ORGANIZATION,
        secret="notification_configuration",
    ),
    "job_templates": Kind(
        "job template",
        "controller_templates",
        references={
            "project": "projects",
            "inventory": "inventories",
            "execution_environment": "execution_environments",
            "webhook_credential": "credentials",
        },
        attached={
            "credentials": "credentials",
            "labels": "labels",
            "instance_groups": "instance_groups",
            **_NOTIFICATIONS,
        },
        left_out=("organization", "survey_spec"),
    ),
    "workflow_job_templates": Kind(
        "workflow",
        "controller_workflows",
        references={**_ORGANIZATION, "inventory": "inventories", "webhook_credential": "credentials"},
        attached={
            "labels": "labels",
            **_NOTIFICATIONS,
            "notification_templates_approvals": "notification_templates",
        },
        left_out=("survey_spec", "workflow_nodes", "destroy_current_nodes"),
    ),
    "schedules": Kind(
        "schedule",
        "controller_schedules",
        scope="unified_job_template",
        references={"unified_job_template": "job_templates"},
        left_out=("organization",),
    ),
}

MADE = {path: kind for path, kind in KINDS.items() if kind.definitions}

# The options of awx.awx.role that name objects.
TARGETS: Mapping[str, str] = {"job_templates": "job_templates", "workflows": "workflow_job_templates"}
