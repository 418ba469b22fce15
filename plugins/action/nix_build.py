# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds a network's machines, or a plain Nix expression."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ansible.parsing.dataloader import DataLoader

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import NIX_BUILD
from ansible_collections.nix.ops.plugins.plugin_utils import nix
from ansible_collections.nix.ops.plugins.plugin_utils.action import OpsAction
from ansible_collections.nix.ops.plugins.plugin_utils.awx import job
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import fact_cache, places, toplevels
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.toplevels import Links
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import other_host
from ansible_collections.nix.ops.plugins.plugin_utils.network import evaluation, private, settings, source
from ansible_collections.nix.ops.plugins.plugin_utils.network.evaluator import NixFailure
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Derivation, Expression, Network, Remembered
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink
from ansible_collections.nix.ops.plugins.plugin_utils.store import build, copy
from ansible_collections.nix.ops.plugins.plugin_utils.store.ahead import Ahead, build_ahead
from ansible_collections.nix.ops.plugins.plugin_utils.store.build import BuildOptions, Built
from ansible_collections.nix.ops.plugins.plugin_utils.store.push import BinaryCache


@dataclass(frozen=True)
class _Wanted:
    """A build.

    :param derivations: the derivations to build.
    :param links: the link for each output; None if no link is wanted.
    :param settings: Nix settings.
    :param say: shows a line about the build.
    """

    derivations: Sequence[Derivation]
    links: Links | None
    settings: Mapping[str, str]
    say: LineSink


class ActionModule(OpsAction):
    """The action behind ``nix.ops.nix_build``."""

    SPECIFICATION = NIX_BUILD
    # What was evaluated last.
    _derivations: Sequence[Derivation] = ()

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Evaluate on the controller, build on the task's host."""
        build_once = self._network if options["network"] else self._plain
        if options["push_to"]:
            self._check_push(options)
        try:
            return build_once(options)
        except OpsError:
            if all(Path(one.drv_path).exists() for one in self._derivations):
                raise
            # Nix keeps derivations only while it evaluates or builds.
            self.live()("a garbage collection has removed derivations before they were built; evaluating once more...")
            return build_once(options)

    def _check_push(self, options: Mapping[str, Any]) -> None:
        if not self._builds_here(options):
            raise OpsError(
                "only what the controller builds can be pushed to a binary cache",
                machine=self.host,
                state="nothing was built",
                next_step="Build on the controller (delegate_to: localhost), or leave out 'push_to'.",
            )
        BinaryCache(options["push_to"], options["push_key_file"]).address()

    def _push(self, outputs: Sequence[str], how: BuildOptions, say: LineSink, options: Mapping[str, Any]) -> list[str]:
        """Push what was built to the binary cache, if there is one."""
        if not options["push_to"] or self.check or how.dry_run:
            return []
        cache = BinaryCache(options["push_to"], options["push_key_file"])
        return list(cache.push(outputs, seconds=options["copy_timeout"], environment=how.environment, on_line=say))

    def _plain(self, options: dict[str, Any]) -> dict[str, Any]:
        derivations = evaluation.instantiate_expression(
            _expression(options), env=self.environment, on_line=self.live(), cwd=self._loader.get_basedir()
        )
        self._derivations = derivations
        links = _numbered(options["out_link"], len(derivations)) if options["out_link"] else None
        return self._realise(_Wanted(derivations, links, options["options"], self.live()), options)

    def describe_failure(self, error: OpsError) -> dict[str, Any]:
        """Say how to name the place of nixpkgs."""
        nix.explain_search_path(error, "Name its place by 'nix_path', of the task or the source: nix_path: [{entry}].")
        return super().describe_failure(error)

    def _builds_here(self, options: Mapping[str, Any]) -> bool:
        return bool(options["on_controller"]) or self.transport.is_controller

    def _network(self, options: dict[str, Any]) -> dict[str, Any]:
        files = [os.path.abspath(os.path.join(self._loader.get_basedir(), file)) for file in options["network"]]
        network = _network(files, options, self._loader)
        build_settings = {**network.options, **options["options"]}
        network = replace(network, options={**network.options, **settings.for_evaluation(options["options"])})
        say = self.live(network.name)
        say("building all machine configurations...")
        remembered = {name: Remembered(**inputs) for name, inputs in options["remembered"].items()}
        names = options["machines"]
        if names is None:
            names = list(
                evaluation.evaluate(network, remembered=remembered, env=self.environment, on_line=say).definitions
            )
        here = [name for name in names if name not in options["elsewhere"]]
        wanted = _Wanted((), self._links(network, files[0], here, options), build_settings, say)
        keys = private.private_keys(network.ssh_keys or _default_keys(network))
        check = partial(private.check_store, keys=keys, env=self.environment)
        with self._ahead(wanted, check, options) as ahead:
            goes_on = options["unevaluated"] == "warn"
            found, failures = self._instantiate(network, names, remembered, ahead, goes_on=goes_on)
            results = [_result(built, relinked=False) for built in ahead.finish()] if ahead else []
            self._derivations = list(found.values())
            if hint := fact_cache.hint(network.uuid, partial(evaluation.copies, network)):
                self.warn(hint)
            # What is built was checked before it was built.
            check([one.drv_path for one in found.values() if not Path(one.out_path).exists()])
            results += self._build_here(wanted, found, options)
        away = {name: one for name, one in found.items() if name in options["elsewhere"]}
        results += self._build_elsewhere(network.uuid, away, build_settings, options)
        return {
            **_together(results),
            "derivations": [_answer(derivation) for derivation in found.values()],
            "outputs": [derivation.out_path for derivation in found.values()],
            "machines": {name: _answer(derivation) for name, derivation in found.items()},
            "unevaluated": {name: str(failure) for name, failure in failures.items()},
        }

    def _links(
        self, network: Network, source_file: str, machines: Sequence[str], options: Mapping[str, Any]
    ) -> Links | None:
        if options["out_link"]:
            return Links(Path(options["out_link"]), None, machines)
        return toplevels.links(network, source_file, machines) if self._builds_here(options) else None

    def _nix_environment(self, wanted: _Wanted) -> dict[str, str]:
        """Return the variables of Nix for a build on the controller."""
        return nix.with_settings(wanted.settings, self.environment, os.environ.get("NIX_CONFIG", ""))

    def _ahead(
        self, wanted: _Wanted, check: Callable[[Sequence[str]], None], options: Mapping[str, Any]
    ) -> AbstractContextManager[Ahead | None]:
        """Return what builds machines while others are evaluated; None if nothing is built before all are.

        :param check: raises an exception for derivations that must not be built.
        """
        links = wanted.links
        is_preview = self.check or options["dry_run"]
        if is_preview or links is None or len(links.machines) < 2 or not self._builds_here(options):
            return nullcontext()

        def prepare(derivations: Sequence[str]) -> None:
            check(derivations)
            links.make_directory()

        environment = self._nix_environment(wanted)
        return build_ahead(
            dict(zip(links.machines, links.paths(), strict=True)),
            prepare=prepare,
            options=BuildOptions(environment=environment),
            goes_on=settings.value_of("keep-going", {**os.environ, **environment}) == "true",
            on_line=wanted.say,
        )

    def _build_here(
        self, wanted: _Wanted, found: Mapping[str, Derivation], options: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """Build the systems of machines on the task's host."""
        here = {name: one for name, one in found.items() if name not in options["elsewhere"]}
        if not here:
            return []
        links = wanted.links and replace(wanted.links, machines=list(here))
        say = self.live(next(iter(found))) if len(found) == 1 else wanted.say
        return [self._realise(_Wanted(list(here.values()), links, wanted.settings, say), options)]

    def _instantiate(
        self,
        network: Network,
        names: Sequence[str],
        remembered: Mapping[str, Remembered],
        listener: evaluation.Listener | None,
        *,
        goes_on: bool,
    ) -> tuple[dict[str, Derivation], dict[str, OpsError]]:
        """Evaluate the systems; return the derivations and the errors.

        :param listener: hears of machines while others are evaluated.
        :param goes_on: whether to go on without systems that do not evaluate.
        """
        given: dict[str, Any] = {
            "remembered": remembered,
            "env": self.environment,
            "on_line": self.live(network.name),
            "listener": listener,
        }
        try:
            if not goes_on:
                return evaluation.instantiate(network, names, **given), {}
        except NixFailure as failure:
            if failure.failing and len(names) > 1:
                failure.what = f"the evaluation of {failure.failing}'s system failed"
                failure.next_step = f"{failure.next_step} Without it, deploy_unevaluated=warn deploys the others."
            raise
        found, failures = evaluation.instantiate_each(network, names, **given)
        for error in failures.values():
            error.state = "this machine is left as it is, and the others are built"
            self.warn(str(error))
        return found, failures

    def _build_elsewhere(
        self, uuid: str, away: Mapping[str, Derivation], wanted: Mapping[str, Any], options: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Build the systems of machines on their build hosts, one call of Nix for each host."""
        hosts: dict[str, list[str]] = {}
        for name in away:
            if options["elsewhere"][name]:
                hosts.setdefault(str(options["elsewhere"][name]), []).append(name)
            else:
                self.live(name)("its system is built on the machine itself, instead of a copy")
        results = []
        for host, names in hosts.items():
            transport = self.other_host(host)
            self.live(host)(f"building {', '.join(names)}...")
            machine = transport.machine(nix.with_settings(wanted, transport.environment))
            dry_run = options["dry_run"] or self.check
            roots = [] if dry_run else [f"built/{uuid}/{name}" for name in names]
            drv_paths = [away[name].drv_path for name in names]
            how = BuildOptions(dry_run, options["repair"])
            with other_host.named(f"the build host {host}", "no machine was touched"):
                over = self.copy_transport(machine, options, transport)
                built, relinked = self._realise_on_host(over, drv_paths, how, roots, self.live(host), options)
            results.append(_result(built, relinked))
        return results

    def _realise(self, wanted: _Wanted, options: dict[str, Any]) -> dict[str, Any]:
        # In check mode the controller builds, since a preview needs the result: that only adds to its store. Another
        # host is asked what it would do.
        dry_run = options["dry_run"] or (self.check and not self._builds_here(options))
        links = None if self.check or dry_run else wanted.links
        roots = links.paths() if links else []
        drv_paths = [derivation.drv_path for derivation in wanted.derivations]
        outputs = [derivation.out_path for derivation in wanted.derivations]
        if self._builds_here(options):
            before = links.targets() if links else []
            how = BuildOptions(dry_run, options["repair"] and not self.check, self._nix_environment(wanted))
            if links:
                links.make_directory()
            built = build.realise_here(drv_paths, outputs=outputs, options=how, roots=roots, on_line=wanted.say)
            # A job of AWX loses its links when it ends. Making them again does not count as a change.
            relinked = job.job_directory() is None and links is not None and before != links.targets()
            if links:
                links.remove_old()
            pushed = self._push(outputs, how, wanted.say, options)
        else:
            pushed = []
            machine = self.transport.machine(nix.with_settings(wanted.settings, self.environment))
            how = BuildOptions(dry_run, options["repair"])
            over = self.copy_transport(machine, options)
            built, relinked = self._realise_on_host(over, drv_paths, how, roots, wanted.say, options)
        return {
            **_result(built, relinked, pushed),
            "derivations": [_answer(derivation) for derivation in wanted.derivations],
            "outputs": outputs,
        }

    def _realise_on_host(
        self,
        over: copy.Transport,
        drv_paths: Sequence[str],
        how: BuildOptions,
        roots: Sequence[str],
        say: LineSink,
        options: Mapping[str, Any],
    ) -> tuple[Built, bool]:
        machine = over.machine
        if self.check and copy.missing(machine, drv_paths).paths:
            say("the derivations are not on this host yet; what it would fetch instead of building is not known")
            return Built(tuple(drv_paths), ()), False
        copy.push(over, drv_paths, options=copy.CopyOptions(), gc_root=None, on_line=say)
        built = build.realise_on(
            *(machine, drv_paths),
            options=how,
            on_line=say,
            patience=options["reconnect_timeout"],
            within=options["build_timeout"],
        )
        return built, build.root_on(machine, drv_paths, roots)


def _result(built: Built, relinked: bool, pushed: Sequence[str] = ()) -> dict[str, Any]:
    return {
        "changed": bool(built.built or built.fetched or relinked or pushed),
        "built": list(built.built),
        "fetched": list(built.fetched),
        "pushed": list(pushed),
    }


def _together(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the result of several builds as one."""
    lists = {key: [path for one in results for path in one[key]] for key in ("built", "fetched", "pushed")}
    return {"changed": any(one["changed"] for one in results), **lists}


def _numbered(link: str, count: int) -> Links:
    """Return a link for each of several outputs: the first as it was given, and the others numbered."""
    path = Path(link)
    return Links(path.parent, None, [path.name, *(f"{path.name}-{number}" for number in range(2, count + 1))])


def _network(files: Sequence[str], options: Mapping[str, Any], loader: DataLoader) -> Network:
    given = {name: options[name] for name in ("uuid", "arguments", "nix_path")} | {"name": options["deployment"]}
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


def _default_keys(network: Network) -> str | None:
    try:
        return str(places.keys(network.uuid))
    except OpsError:
        # A user without a home directory has none.
        return None
