# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds a network's machines, or a plain Nix expression."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible.parsing.dataloader import DataLoader

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import NIX_BUILD
from ansible_collections.nix.ops.plugins.plugin_utils import awx, nix
from ansible_collections.nix.ops.plugins.plugin_utils.action import OpsAction
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import Machine
from ansible_collections.nix.ops.plugins.plugin_utils.network import evaluation, source
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Derivation, Expression, Network, Remembered
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink
from ansible_collections.nix.ops.plugins.plugin_utils.store import build, copy
from ansible_collections.nix.ops.plugins.plugin_utils.store.build import BuildOptions, Built


@dataclass(frozen=True)
class _Wanted:
    """What is to be built.

    :param derivations: what was evaluated.
    :param roots: the link for each output; none where no link is wanted.
    :param settings: Nix settings.
    :param say: where lines about it go.
    """

    derivations: Sequence[Derivation]
    roots: Sequence[str]
    settings: Mapping[str, str]
    say: LineSink


class ActionModule(OpsAction):
    """The action behind ``nix.ops.nix_build``."""

    SPECIFICATION = NIX_BUILD

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Evaluate on the controller, build on the task's host."""
        if options["network"]:
            return self._network(options)
        derivations = evaluation.instantiate_expression(
            _expression(options), env=self.environment, on_line=self.live(), cwd=self._loader.get_basedir()
        )
        link = options["out_link"]
        roots = [link if number == 0 else f"{link}-{number + 1}" for number in range(len(derivations))] if link else []
        return self._realise(_Wanted(derivations, roots, options["options"], self.live()), options)

    def _network(self, options: dict[str, Any]) -> dict[str, Any]:
        network = _network(options, self._loader)
        say = self.live(network.name)
        say("building all machine configurations...")
        remembered = {name: Remembered(**inputs) for name, inputs in options["remembered"].items()}
        names = options["machines"]
        if names is None:
            names = list(
                evaluation.evaluate(network, remembered=remembered, env=self.environment, on_line=say).definitions
            )
        found = evaluation.instantiate(network, names, remembered=remembered, env=self.environment, on_line=say)
        if len(found) == 1:
            say = self.live(next(iter(found)))
        roots = [os.path.join(options["out_link"], name) for name in found] if options["out_link"] else []
        result = self._realise(_Wanted(list(found.values()), roots, network.options, say), options)
        return {**result, "machines": {name: _answer(derivation) for name, derivation in found.items()}}

    def _realise(self, wanted: _Wanted, options: dict[str, Any]) -> dict[str, Any]:
        # In check mode the controller builds, since a preview needs the result: that adds to its
        # store and to nothing else. A host is asked what it would do.
        dry_run = options["dry_run"] or (self.check and not self.transport.is_controller)
        roots = () if self.check or dry_run else wanted.roots
        before = [os.path.realpath(root) for root in roots]
        drv_paths = [derivation.drv_path for derivation in wanted.derivations]
        if self.transport.is_controller:
            inherited = os.environ.get("NIX_CONFIG", "")
            how = BuildOptions(dry_run, nix.with_settings(wanted.settings, self.environment, inherited))
            built = build.realise_here(drv_paths, options=how, roots=roots, on_line=wanted.say)
            # Links that go with the files of a job are made by each one, and are no change.
            links_stay = awx.job_directory() is None
            relinked = links_stay and before != [os.path.realpath(root) for root in roots]
        else:
            machine = self.transport.machine(nix.with_settings(wanted.settings, self.environment))
            built, relinked = self._realise_on_host(
                machine, drv_paths, BuildOptions(dry_run), roots, wanted.say, options
            )
        return {
            "changed": bool(built.built or built.fetched or relinked),
            "derivations": [_answer(derivation) for derivation in wanted.derivations],
            "outputs": [derivation.out_path for derivation in wanted.derivations],
            "built": list(built.built),
            "fetched": list(built.fetched),
        }

    def _realise_on_host(
        self,
        machine: Machine,
        drv_paths: Sequence[str],
        how: BuildOptions,
        roots: Sequence[str],
        say: LineSink,
        options: Mapping[str, Any],
    ) -> tuple[Built, bool]:
        if self.check and copy.missing(machine, drv_paths):
            say("the derivations are not on this host yet; what it would fetch instead of building is not known")
            return Built(tuple(drv_paths), ()), False
        copy.push(self.copy_transport(machine), drv_paths, options=copy.CopyOptions(), gc_root=None, on_line=say)
        patience = options["reconnect_timeout"]
        built = build.realise_on(machine, drv_paths, options=how, on_line=say, patience=patience)
        return built, build.root_on(machine, drv_paths, roots)


def _network(options: Mapping[str, Any], loader: DataLoader) -> Network:
    files = [os.path.abspath(os.path.join(loader.get_basedir(), file)) for file in options["network"]]
    given = {name: options[name] for name in ("uuid", "arguments", "nix_path", "options")} | {
        "name": options["deployment"]
    }
    if len(files) == 1 and not any(given.values()):
        return source.read_source(files[0], loader.load_from_file)
    if any(not file.endswith(source.FILE_SUFFIX) for file in files):
        raise OpsError(
            f"{', '.join(files)} and options of the task can't be one network",
            next_step=f"Give one file ending in {source.SOURCE_SUFFIX}, which says all by itself, or"
            f" files ending in {source.FILE_SUFFIX}.",
        )
    return source.network_of_files(files, **given)


def _expression(options: Mapping[str, Any]) -> Expression:
    return Expression(
        expression=options["expression"],
        file=options["file"],
        flake=options["flake"],
        attribute=tuple(options["attribute"] or ()),
        arguments=options["arguments"],
        nix_path=tuple(options["nix_path"]),
        options=options["options"],
    )


def _answer(derivation: Derivation) -> dict[str, str]:
    return {"drv_path": derivation.drv_path, "out_path": derivation.out_path}
