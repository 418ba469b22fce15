# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages and units that differ."""

from __future__ import annotations

import hashlib
import subprocess

from ansible_collections.nix.ops.plugins.plugin_utils.activation import difference
from ansible_collections.nix.ops.plugins.plugin_utils.machine import answer as answers
from ansible_collections.nix.ops.plugins.plugin_utils.machine import description
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import script


def path(name, digest="0"):
    return f"/nix/store/{digest * 32}-{name}"


def test_packages_are_compared_by_version():
    old = [path("hello-2.12"), path("curl-8.9"), path("unit-web.service"), path("glibc-2.38-44"), path("same-1.0")]
    new = [
        path("hello-2.13"),
        path("git-2.46"),
        path("unit-web.service", "1"),
        path("glibc-2.39-5"),
        path("same-1.0", "1"),
    ]
    assert difference.packages(old, new) == (
        "curl: 8.9 → ∅",
        "git: ∅ → 2.46",
        "glibc: 2.38-44 → 2.39-5",
        "hello: 2.12 → 2.13",
    )


def test_a_name_ends_at_the_first_dash_that_no_letter_follows():
    assert difference.packages([], [path("nixos-system-target-24.05pre-git")]) == (
        "nixos-system-target: ∅ → 24.05pre-git",
    )


def test_units_are_compared_by_their_files():
    old = {"web.service": path("unit-web"), "gone.service": path("unit-gone"), "same.service": path("unit-same")}
    new = {"web.service": path("unit-web", "1"), "new.service": path("unit-new"), "same.service": path("unit-same")}
    assert difference.units(old, new) == (
        "unit gone.service: gone",
        "unit new.service: new",
        "unit web.service: changed",
    )


def test_a_unit_includes_the_files_that_override_it():
    web, old, new = path("unit-web"), path("overrides"), path("overrides", "1")
    drop_in = "web.service.d/overrides.conf"
    assert difference.units({"web.service": web}, {"web.service": web, drop_in: new}) == ("unit web.service: changed",)
    assert difference.units({"web.service": web, drop_in: old}, {"web.service": web, drop_in: new}) == (
        "unit web.service: changed",
    )
    assert difference.units({}, {"web.service": web, drop_in: new}) == ("unit web.service: new",)
    assert difference.units({"web.service": web, drop_in: old}, {}) == ("unit web.service: gone",)


def test_units_that_are_wanted_by_others_than_before_are_named():
    web, getty = path("unit-web"), path("unit-getty")
    old = {"web.service": web, "multi-user.target.wants/web.service": web}
    new = {"web.service": web, "getty.target.requires/getty@tty2.service": getty}
    assert difference.units(old, new) == (
        "unit getty@tty2.service: newly required by getty.target",
        "unit web.service: no longer wanted by multi-user.target",
    )
    # A new unit says enough.
    assert difference.units({}, old) == ("unit web.service: new",)
    assert difference.units(old, {}) == ("unit web.service: gone",)


def test_units_of_a_toplevel_are_its_unit_files(tmp_path):
    units = tmp_path / "etc/systemd/system"
    (units / "multi-user.target.wants").mkdir(parents=True)
    (units / "web.service.d").mkdir()
    (tmp_path / "file").touch()
    (units / "web.service").symlink_to(tmp_path / "file")
    (units / "web.service.d/overrides.conf").symlink_to(tmp_path / "file")
    (units / "multi-user.target.wants/web.service").symlink_to("../web.service")
    (units / "masked.service").symlink_to("/dev/null")
    names = ("web.service", "web.service.d/overrides.conf", "multi-user.target.wants/web.service")
    assert difference.units_of(str(tmp_path)) == dict.fromkeys(names, str(tmp_path / "file"))


def test_files_of_etc_are_compared_by_what_they_are():
    old = {"motd": path("motd"), "gone.conf": path("gone"), "sudoers": path("same"), "sudoers.mode": "1" * 64}
    new = {"motd": path("motd", "1"), "new.conf": path("new"), "sudoers": path("same"), "sudoers.mode": "2" * 64}
    assert difference.files(old, new) == (
        "/etc/gone.conf: gone",
        "/etc/motd: changed",
        "/etc/new.conf: new",
        "/etc/sudoers: changed",
    )


def test_a_file_whose_mode_changes_too_has_one_line():
    old = {"sudoers": path("sudoers"), "sudoers.mode": "1" * 64}
    assert difference.files(old, {}) == ("/etc/sudoers: gone",)
    assert difference.files(old, {"sudoers": path("sudoers", "1"), "sudoers.mode": "2" * 64}) == (
        "/etc/sudoers: changed",
    )
    # A file of the user that is called like this.
    assert difference.files({}, {"game.mode": path("game")}) == ("/etc/game.mode: new",)


def test_not_all_files_of_etc_are_named():
    lines = difference.files({}, {f"{number:02}": path("file") for number in range(25)})
    assert lines[:2] == ("/etc/00: new", "/etc/01: new")
    assert lines[-2:] == ("/etc/19: new", "and 5 more files in /etc")


def test_files_of_a_toplevel_are_those_of_etc_without_units(tmp_path):
    etc = tmp_path / "built/etc"
    (etc / "systemd").mkdir(parents=True)
    (etc / "motd").symlink_to(path("motd"))
    (etc / "systemd/system").symlink_to(path("system-units"))
    (etc / "systemd/user").symlink_to(path("user-units"))
    (etc / "a file").symlink_to(path("a"))
    (etc / "sudoers.mode").write_text("0440\n")
    (etc / "na\u00efve").symlink_to(path("left-out"))
    (tmp_path / "etc").symlink_to(etc)
    assert difference.files_of(str(tmp_path)) == {
        "motd": path("motd"),
        "systemd/user": path("user-units"),
        "a file": path("a"),
        "sudoers.mode": hashlib.sha256(b"0440\n").hexdigest(),
    }
    assert difference.files_of(str(tmp_path / "missing")) == {}


def test_the_machine_tells_units_and_files_as_the_controller_sees_them(tmp_path):
    etc = tmp_path / "built/etc"
    (etc / "systemd/system/web.service.d").mkdir(parents=True)
    (etc / "systemd/system/a.target.wants").mkdir()
    (tmp_path / "file").touch()
    (etc / "motd").symlink_to(path("motd"))
    (etc / "a file").symlink_to(path("a"))
    (etc / "na\u00efve").symlink_to(path("left-out"))
    (etc / "sudoers.mode").write_text("0440\n")
    (etc / "systemd/system/web.service").symlink_to(tmp_path / "file")
    (etc / "systemd/system/masked.service").symlink_to("/dev/null")
    (etc / "systemd/system/web.service.d/overrides.conf").symlink_to(tmp_path / "file")
    (etc / "systemd/system/a.target.wants/web.service").symlink_to("../web.service")
    (tmp_path / "etc").symlink_to(etc)
    described = script("machine/describe") + f"print_units {tmp_path}\nprint_files {tmp_path}\n"
    done = subprocess.run(["sh", "-c", described], capture_output=True, text=True, check=True)
    answer = answers.read(done.stdout, {name: description.DESCRIPTION[name] for name in ("unit", "file")}, "target")
    assert description.read_units(answer) == difference.units_of(str(tmp_path))
    assert description.read_files(answer) == difference.files_of(str(tmp_path))


def test_parts_that_only_a_reboot_replaces_are_named(tmp_path):
    for name in ("kernel", "initrd"):
        (tmp_path / name).touch()
    booted = {"kernel": path("linux-6.1"), "initrd": str(tmp_path / "initrd"), "systemd": path("systemd-255")}
    # A container has no kernel of its own.
    assert difference.reboot(booted, str(tmp_path)) == ("a reboot will be needed for: kernel",)
    assert difference.reboot({"initrd": str(tmp_path / "initrd")}, str(tmp_path)) == ()
