#!/usr/bin/python
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of nix.ops.awx_objects; the work is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: awx_objects
short_description: Bring objects of AWX to what definitions say
version_added: 0.1.0
author: nix.ops contributors (@nix-ops)
description:
  - Makes and changes objects of AWX, removes those that it has made before and that no definition names any more, then
    synchronizes the inventory sources.
  - Compares everything with what AWX has, so that a second run changes nothing. In check mode it says what would
    change, also on an AWX that has nothing yet.
  - It notes down what it has made in the variables of an inventory of its own. Objects that were there before, and what
    people attach to objects by hand, stay.
  - The playbook C(nix.ops.awx_setup) uses it.
  - The environment has the address and the login of AWX, as for the modules of awx.awx, E(CONTROLLER_HOST), and
    E(CONTROLLER_OAUTH_TOKEN) or E(CONTROLLER_USERNAME) and E(CONTROLLER_PASSWORD). E(CONTROLLER_VERIFY_SSL) and
    E(CONTROLLER_OPTIONAL_API_URLPATTERN_PREFIX) count too.
  - Works only on the controller, whatever the task's host.
extends_documentation_fragment: [nix.ops.attributes]
attributes:
  platform:
    platforms: posix
options:
  name:
    description: What the names of all objects begin with. The inventory with the notes is called C(NAME setup).
    type: str
    required: true
  organization:
    description: Name of the organization. It has to exist.
    type: str
    required: true
  definitions:
    description:
      - The lists C(controller_execution_environments), C(controller_credentials), C(controller_projects),
        C(controller_inventories), C(controller_inventory_sources), C(controller_notifications),
        C(controller_templates), C(controller_workflows), C(controller_schedules) and C(controller_roles).
      - Their entries have the options of the modules of awx.awx, as those of infra.aap_configuration have.
      - Needed if O(state=present).
    type: dict
    default: {}
  state:
    description: V(absent) removes all that was made, and ignores O(definitions).
    type: str
    choices: [present, absent]
    default: present
  update_secrets:
    description: Whether to write secrets that AWX already has. AWX does not tell them, so they can't be compared.
    type: bool
    default: false
  timeout:
    description: Seconds until an update of a project or the synchronization of an inventory is given up.
    type: float
    default: 600
seealso:
  - module: nix.ops.deployment_plan
"""

EXAMPLES = r"""
- name: Remove what was set up in AWX
  nix.ops.awx_objects:
    name: nix.ops Default
    organization: Default
    state: absent
"""

RETURN = r"""
changes:
  description: What was changed, or would be in check mode, a line each.
  returned: success
  type: list
  elements: str
  sample: [create the project nix.ops Default]
hosts:
  description: The hosts of the inventory after its synchronization.
  returned: success
  type: list
  elements: str
  sample: [target]
"""
