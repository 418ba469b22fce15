# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages and units that differ."""

from __future__ import annotations

from ansible_collections.nix.ops.plugins.plugin_utils.activation import difference


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


def test_units_of_a_toplevel_are_its_unit_files(tmp_path):
    units = tmp_path / "etc/systemd/system"
    (units / "multi-user.target.wants").mkdir(parents=True)
    (tmp_path / "file").touch()
    (units / "web.service").symlink_to(tmp_path / "file")
    assert difference.units_of(str(tmp_path)) == {"web.service": str(tmp_path / "file")}


def test_parts_that_only_a_reboot_replaces_are_named(tmp_path):
    for name in ("kernel", "initrd"):
        (tmp_path / name).touch()
    booted = {"kernel": path("linux-6.1"), "initrd": str(tmp_path / "initrd"), "systemd": path("systemd-255")}
    # A container has no kernel of its own.
    assert difference.reboot(booted, str(tmp_path)) == ("a reboot will be needed for: kernel",)
    assert difference.reboot({"initrd": str(tmp_path / "initrd")}, str(tmp_path)) == ()
