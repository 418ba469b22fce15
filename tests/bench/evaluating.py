# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures evaluations with a real nixpkgs: systems of many machines, and an inventory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

import yaml

from bench.usage import Usage, measured

HERE = Path(__file__).resolve().parent
OWN, SHARED = "one process, each with its own package set", "nix.ops"
CHECKOUT = HERE.parents[1]

# Lets nix-instantiate read what an inventory reads.
_OPTIONS = (
    "let net = import @network@; nixpkgs = @nixpkgs@; in builtins.mapAttrs (name: machine: let c = (import"
    " (nixpkgs + /nixos/lib/eval-config.nix) { modules = [ @options@ net.defaults machine"
    " { networking.hostName = name; deployment.targetHost = name; } ]; }).config; in"
    " { inherit (c.deployment) targetHost targetUser tags sshOptions owners; ports = c.services.openssh.ports;"
    ' release = c.system.nixos.release; }) (removeAttrs net [ "defaults" ])'
)


def measure(nixpkgs: str, repetitions: int, machines: int = 20, hosts: int = 100) -> Iterator[str]:
    """Measure, and answer with the lines of tables in Markdown.

    :param nixpkgs: a checkout of nixpkgs.
    :param machines: whose systems are evaluated.
    :param hosts: the machines of the inventory.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as made:
        directory = Path(made)
        (directory / "ansible_collections/nix").mkdir(parents=True)
        (directory / "ansible_collections/nix/ops").symlink_to(CHECKOUT)
        yield from _systems(directory, nixpkgs, repetitions, machines)
        yield ""
        yield from _inventory(directory, nixpkgs, repetitions, hosts)


def _systems(directory: Path, nixpkgs: str, repetitions: int, machines: int) -> Iterator[str]:
    sides = {OWN: "nixpkgs.overlays = [ ];", SHARED: ""}
    commands = {}
    for side, more in sides.items():
        file = _network(directory, "own" if more else "shared", machines, more)
        once = str(HERE / "evaluate_once.py")
        commands[side] = [sys.executable, once, "plain" if more else "nix.ops", str(file), nixpkgs]
    found = _in_turn(directory, commands, repetitions, keeps=False)
    yield f"| systems of {machines} machines, nothing remembered | seconds | processor's seconds | memory |"
    yield "|---|---:|---:|---:|"
    yield from (_row(side, took) for side, took in found.items())


def _inventory(directory: Path, nixpkgs: str, repetitions: int, hosts: int) -> Iterator[str]:
    file = _network(directory, "inventory", hosts, "")
    source = directory / "inventory.network.yml"
    source.write_text(f"plugin: nix.ops.network\nfiles: [{file}]\nnix_path: [nixpkgs={nixpkgs}]\n")
    ask = ["ansible-inventory", "--list", "-i"]
    listed = subprocess.run(
        [*ask, str(source)],
        cwd=directory,
        env=_variables(directory, "warm"),
        capture_output=True,
        text=True,
        check=True,
    )
    variables = json.loads(listed.stdout)["_meta"]["hostvars"]
    static = directory / "static.yml"
    static.write_text(yaml.safe_dump({"all": {"hosts": variables}}))
    options = CHECKOUT / "plugins/plugin_utils/network/options.nix"
    names = {"@network@": str(file), "@nixpkgs@": nixpkgs, "@options@": str(options)}
    expression = _OPTIONS
    for name, value in names.items():
        expression = expression.replace(name, value)
    evaluate = ["nix-instantiate", "--eval", "--strict", "--json", "--read-write-mode", "--expr", expression]
    yield f"| inventory of {hosts} machines | seconds | processor's seconds | memory |"
    yield "|---|---:|---:|---:|"
    warm = _in_turn(directory, {"static YAML": [*ask, str(static)], "nix.ops": [*ask, str(source)]}, repetitions)
    yield from (_row(f"{side}{', remembered' if side == SHARED else ''}", took) for side, took in warm.items())
    cold = _in_turn(directory, {"nix-instantiate": evaluate, "nix.ops": [*ask, str(source)]}, repetitions, keeps=False)
    yield from (_row(f"{side}{', nothing remembered' if side == SHARED else ''}", took) for side, took in cold.items())


def _network(directory: Path, name: str, machines: int, more: str) -> Path:
    one = (
        'networking.publicIPv4 = "198.51.100.${toString n}"; deployment.tags = [ "web" ];'
        f' services.nginx = {{ enable = true; virtualHosts.localhost.root = "/srv"; }}; {more}'
    )
    defaults = (
        'fileSystems."/".device = "/dev/sda1"; boot.loader.grub.device = "/dev/sda"; services.openssh.enable = true;'
    )
    file = directory / f"{name}.nix"
    file.write_text(
        f'builtins.listToAttrs (builtins.genList (n: {{ name = "m${{toString n}}"; value = {{ {one} }}; }}) {machines})'
        f" // {{ defaults = {{ {defaults} }}; }}\n"
    )
    return file


def _in_turn(
    directory: Path, commands: Mapping[str, Sequence[str]], repetitions: int, *, keeps: bool = True
) -> dict[str, list[Usage]]:
    """Run all commands in turn, so that all feel the same load of the computer.

    :param keeps: whether they find what an earlier run has remembered.
    """
    found: dict[str, list[Usage]] = {side: [] for side in commands}
    for repetition in range(repetitions):
        for number, (side, command) in enumerate(commands.items()):
            print(f"run {repetition + 1} of {repetitions}, evaluating: {side}", file=sys.stderr)
            cache = "warm" if keeps else f"cold-{number}-{repetition}"
            done, usage = measured(command, cwd=directory, env=_variables(directory, cache))
            if done.returncode != 0:
                raise SystemExit(f"bench: {command} ends with {done.returncode}\n{done.stdout}")
            found[side].append(usage)
    return found


def _variables(directory: Path, cache: str) -> dict[str, str]:
    names = ("PYTHONPATH", "ANSIBLE_COLLECTIONS_PATH")
    settings = {"ANSIBLE_INVENTORY_ENABLED": "nix.ops.network,yaml", "XDG_CACHE_HOME": str(directory / cache)}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, **settings, **dict.fromkeys(names, str(directory)), "PATH": path}


def _row(side: str, took: Sequence[Usage]) -> str:
    wall, cpu, peak = (median(getattr(one, name) for one in took) for name in ("wall", "cpu", "peak"))
    return f"| {side} | {wall:.2f} s | {cpu:.2f} s | {peak / 2**30:.1f} GiB |"
