# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of the fleet."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from . import roots
from .fleet import Fleet, fleets_directory
from .host import FleetError
from .machine import Kind
from .network import Network

_Command = Callable[[Fleet, argparse.Namespace], int]


def main() -> int:
    """Run one command; :returns: its exit code."""
    arguments = _parser().parse_args()
    directory = arguments.directory or (fleets_directory() / arguments.fleet)
    command: _Command = arguments.command
    try:
        return command(Fleet(directory, arguments.number), arguments)
    except FleetError as error:
        print(f"fleet: {error}", file=sys.stderr)
        return 1


def _up(fleet: Fleet, arguments: argparse.Namespace) -> int:
    kind = Kind(
        debian=arguments.debian,
        user=arguments.user,
        sudo_password=arguments.sudo_password,
        shell=arguments.shell,
        jump=arguments.jump,
        store_mib=arguments.store_mib,
        wiped=arguments.wiped,
        nix=not arguments.no_nix,
    )
    for machine in fleet.up_all(dict.fromkeys(arguments.names, kind), toplevel=arguments.toplevel).values():
        print(f"{machine.name} is up: {shlex.join(machine.ssh_command())}")
    return 0


def _down(fleet: Fleet, arguments: argparse.Namespace) -> int:
    if bool(arguments.names) == arguments.all:
        raise FleetError("Name machines, or say --all.")
    for name in arguments.names:
        fleet.down(name)
    if arguments.all:
        fleet.down_all()
    return 0


def _list(fleet: Fleet, arguments: argparse.Namespace) -> int:
    facts = [machine.facts() for machine in fleet.machines.values()]
    if arguments.json:
        print(json.dumps(facts, indent=2))
        return 0
    for fact in facts:
        print(f"{fact['name']:<16} {fact['state']:<8} {fact['debian']:<9} {fact['user']}@{fact['address']}")
    return 0


def _ssh(fleet: Fleet, arguments: argparse.Namespace) -> int:
    command = fleet.machine(arguments.name).ssh_command(*arguments.words)
    os.execvp(command[0], command)


def _inspect(fleet: Fleet, arguments: argparse.Namespace) -> int:
    print(json.dumps(fleet.machine(arguments.name).inspect(), indent=2))
    return 0


def _reset(fleet: Fleet, arguments: argparse.Namespace) -> int:
    for machine in [fleet.machine(name) for name in arguments.names]:
        machine.reset()
    return 0


def _ssh_config(fleet: Fleet, _arguments: argparse.Namespace) -> int:
    print(fleet.ssh_config)
    return 0


def _purge(_fleet: Fleet, _arguments: argparse.Namespace) -> int:
    users = {papers.parent for papers in fleets_directory().glob("*/id_ed25519")} | {*Network.owners().values()}
    if users:
        raise FleetError(f"Fleets use the roots: `fleet --directory {min(users)} down --all` first.")
    shutil.rmtree(roots.cache_directory(), ignore_errors=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fleet", description="Starts and stops live machines to deploy to.")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--fleet", default="default", help="the fleet's name; several run beside each other")
    place.add_argument("--directory", type=Path, help="the fleet's directory, instead of a name")
    parser.add_argument("--number", type=int, metavar="N", help="the fleet's number, for addresses in 198.18.N.0/24")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="start machines, all of the same kind")
    up.add_argument("names", nargs="+", metavar="NAME")
    up.add_argument("--debian", choices=roots.DEBIANS, default="bookworm", help="Nix 2.8 or 2.26")
    up.add_argument("--user", choices=("root", "deploy"), default="root", help="who logs in; deploy has sudo")
    up.add_argument("--sudo-password", metavar="WORD", help="the password that sudo asks deploy for")
    up.add_argument("--shell", choices=("sh", "fish"), default="sh", help="the user's login shell")
    up.add_argument("--jump", metavar="NAME", help="the machine that alone reaches these")
    up.add_argument("--wiped", action="store_true", help="its root is new at each boot, but for /nix and /boot")
    up.add_argument("--store-mib", type=int, metavar="N", help="the room that /nix has")
    up.add_argument("--no-nix", action="store_true", help="without Nix")
    up.add_argument("--toplevel", type=Path, help="the first system, instead of the fleet's own")
    up.set_defaults(command=_up)

    down = commands.add_parser("down", help="remove machines without a trace")
    down.add_argument("names", nargs="*", metavar="NAME")
    down.add_argument("--all", action="store_true", help="all of the fleet")
    down.set_defaults(command=_down)

    listed = commands.add_parser("list", help="show the machines")
    listed.add_argument("--json", action="store_true", help="with all facts")
    listed.set_defaults(command=_list)

    ssh = commands.add_parser("ssh", help="log in, or run a command")
    ssh.add_argument("name", metavar="NAME")
    ssh.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")
    ssh.set_defaults(command=_ssh)

    inspect = commands.add_parser("inspect", help="show what a machine runs and boots, read out of band")
    inspect.add_argument("name", metavar="NAME")
    inspect.set_defaults(command=_inspect)

    reset = commands.add_parser("reset", help="make machines new again, with the same addresses and host keys")
    reset.add_argument("names", nargs="+", metavar="NAME")
    reset.set_defaults(command=_reset)

    ssh_config = commands.add_parser("ssh-config", help="show where the file is that ssh -F takes")
    ssh_config.set_defaults(command=_ssh_config)

    purge = commands.add_parser("purge", help="remove the cached roots")
    purge.set_defaults(command=_purge)
    return parser
