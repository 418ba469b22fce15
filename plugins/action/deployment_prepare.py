# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prepares a machine for a deployment."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_PREPARE
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import checkout, fact_cache, preparation
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import host_keys as accepted_keys
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import state as states
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.checkout import Checkout
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.preparation import KeyOptions, Purpose, Subject
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.record import Record
from ansible_collections.nix.ops.plugins.plugin_utils.keys.task import KeysAction
from ansible_collections.nix.ops.plugins.plugin_utils.machine import description, host_keys
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Description
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import ConnectionLost
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host_keys import Known


class ActionModule(KeysAction):
    """The action behind ``nix.ops.deployment_prepare``."""

    SPECIFICATION = DEPLOYMENT_PREPARE

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Ask the machine once, join what is remembered, and decide the inputs that are still unknown."""
        subject = Subject(options["uuid"], options["deployment"], options["machine"], options["profile"])
        description.check_profile(subject.profile)
        say, addresses = self.live(), self.transport.addresses
        may_generate = options["provision"] and options["remember"] and not self.check
        # Without a new key pair there is nothing that a forgetful cache could lose.
        if hint := fact_cache.hint(subject.uuid):
            self.warn(hint)
        cached = fact_cache.read_state(self.host, subject.uuid, has_to_keep=may_generate, on_line=say)
        timeout = options["timeout"] if cached is None else 0
        keys = self.delivery(options["keys"]) if options["keys"] else None
        question = keys.question() if keys else None
        found, record = self._reach(subject, timeout, question, options)
        if options["remember"] and not options["take_over"]:
            preparation.check_owner(found, self.transport.machine(), addresses, subject)
        known = preparation.join(cached, found, record, subject, on_line=say)
        where = self._checkout(options)
        if options["remember"] and not options["older"]:
            checkout.check(where, known.stays, subject.name)
        key = KeyOptions(options["ssh_key"], may_generate, self.variables)
        purpose = Purpose.REMEMBER if options["remember"] else Purpose.REPORT
        if self.check and options["remember"]:
            purpose = Purpose.PREVIEW
        inputs, is_generated = preparation.decide_inputs(
            known.inputs, found.release, subject, key, purpose=purpose, on_line=say
        )
        acknowledged = preparation.acknowledge(known.acknowledged, addresses, now=int(time.time()))
        state = replace(known, inputs=inputs if options["remember"] else known.inputs, acknowledged=acknowledged)
        answer = {
            "changed": is_generated,
            "inputs": asdict(inputs),
            "state": states.as_json(state),
            "checkout": {"revision": where.revision, "modified": where.modified} if where else None,
            "recorded": preparation.is_recorded(record, state),
            "host_key_checked": host_keys.is_checked(self.transport.connection),
            "address": acknowledged.address if acknowledged else None,
            "port": acknowledged.port if acknowledged else None,
            "compared_keys": keys.compared(found.compared_keys) if keys else None,
            **description.as_json(found),
        }
        # Ansible would cache facts of check mode too.
        return answer if self.check else {**answer, **fact_cache.facts(self.host, state, self.warn)}

    def _reach(
        self, subject: Subject, timeout: int, keys: str | None, options: dict[str, Any]
    ) -> tuple[Description, Record | None]:
        """Describe the machine; accept its host key if none is known and the user says so.

        :param keys: the keys to compare.
        """
        machine, addresses = self.transport.machine(), self.transport.addresses
        reach = partial(
            preparation.reach,
            *(machine, addresses, subject),
            since=options["since"],
            on_line=self.live(),
            keys=keys,
            generations=options["generations"],
        )
        try:
            return reach(timeout=timeout)
        except ConnectionLost as lost:
            if not options["accept_new_host_keys"] or not self._accept(str(lost), subject):
                raise
        return reach(timeout=0)

    def _checkout(self, options: dict[str, Any]) -> Checkout | None:
        directory = os.path.dirname(options["network"]) if options["network"] else None
        if directory is None or not options["remember"]:
            return None
        given = options["checkout"]
        return Checkout(directory, given["revision"], given["modified"]) if given else checkout.find(directory)

    def _accept(self, told: str, subject: Subject) -> bool:
        """Accept the host key that ended the connection, if no key of the machine is known; return whether it was."""
        refused = self.transport.refused_host_key(told)
        if refused is None:
            return False
        self.why_not_accepted = accepted_keys.why_not_accepted(refused, subject.uuid, self.variables)
        if self.why_not_accepted:
            return False
        shown = host_keys.fingerprint(refused.key, refused.name)
        if self.check:
            self.live()(f"its host key is new, and will be remembered: {shown}")
            self.transport.accept_host_key(Known(refused.key, "", ""))
        else:
            self.transport.accept_host_key(accepted_keys.accept(subject.uuid, subject.name, refused.key))
            self.live()(f"its host key was new, and is remembered: {shown}")
        return True
