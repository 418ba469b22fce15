# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine says of its boot menu and of the parts that only a reboot replaces, in each shell."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.activation import difference
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import differs
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import script

SHELLS = [["dash"], ["bash", "--posix"], ["busybox", "sh"]]
HASH = "0" * 32
OLD, NEW, OLDEST = (f"/nix/store/{HASH}-nixos-system-{name}" for name in ("old", "new", "oldest"))

# What the text of switch-to-configuration has in different releases.
PERL = '    system("/nix/store/{}-{} $out") == 0 or exit 1;\n'
WRAPPED = "\0export INSTALL_BOOTLOADER='/nix/store/{}-{}'\0"
GRUB, EXTLINUX, INIT = "install-grub.sh", "extlinux-conf-builder.sh", "init-script-builder.sh"
SYSTEMD = "systemd-boot-builder.py"

EXTRA = 'menuentry "Other" {\n  chainloader +1\n}\n'


def grub(toplevel: str, default: str = "0", before: str = "") -> str:
    """A menu as NixOS writes it: the default first, and then all generations."""
    return (
        f'if [ "${{next_entry}}" ]; then\n  set default="${{next_entry}}"\nelse\n  set default={default}\nfi\n{before}'
        f'menuentry "NixOS - Default" --unrestricted {{\n  linux /kernel init={toplevel}/init loglevel=4\n}}\n'
        f'submenu "All" {{\nmenuentry "1" {{\n  linux /kernel init={OLDEST}/init\n}}\n}}\n'
    )


def entry(toplevel: str) -> str:
    """An entry of systemd-boot."""
    return f"title NixOS\nlinux /efi/kernel.efi\noptions init={toplevel}/init quiet\n"


LEFT = {"boot/grub/grub.cfg": grub(OLDEST)}
LOADER = "boot/loader/loader.conf"


def entries(default: str, **numbered: str) -> dict[str, str]:
    """The menu of systemd-boot; each entry by what follows 'nixos-generation-' in its name."""
    named = {f"boot/loader/entries/nixos-generation-{name}.conf": entry(path) for name, path in numbered.items()}
    return {LOADER: f"timeout 5\ndefault {default}\nconsole-mode keep\n", **named}


MENUS = {
    "grub": (GRUB, {"boot/grub/grub.cfg": grub(NEW)}, NEW),
    "grub on two disks": (GRUB, {"boot/grub/grub.cfg": grub(OLD), "boot2/grub/grub.cfg": grub(NEW)}, NEW),
    "grub on mirrors alone": (GRUB, {"boot-a/grub/grub.cfg": grub(NEW)}, NEW),
    "grub with a menu of systemd-boot left": (GRUB, {"boot/grub/grub.cfg": grub(NEW), **entries("x")}, NEW),
    "grub starts what was chosen last": (GRUB, {"boot/grub/grub.cfg": grub(NEW, '"${saved_entry}"')}, ""),
    "grub starts another entry": (GRUB, {"boot/grub/grub.cfg": grub(NEW, "2")}, ""),
    "grub starts an entry before those of NixOS": (GRUB, {"boot/grub/grub.cfg": grub(NEW, before=EXTRA)}, ""),
    "grub's menu is not mounted": (GRUB, {}, ""),
    "extlinux": (EXTLINUX, {"boot/extlinux/extlinux.conf": f"DEFAULT x\nLABEL x\n  APPEND init={NEW}/init\n"}, NEW),
    "the init script": (INIT, {"sbin/init": f"#!/bin/sh\nexport systemConfig={NEW}\nexec {NEW}/init\n", **LEFT}, NEW),
    "systemd-boot": (SYSTEMD, {**entries("nixos-generation-2.conf", **{"2": NEW, "1": OLD}), **LEFT}, NEW),
    "systemd-boot, no suffix": (SYSTEMD, entries("nixos-generation-2", **{"2": NEW}), NEW),
    "systemd-boot, a pattern": (SYSTEMD, {**entries("nixos-*", **{"9": OLD, "10": NEW}), **LEFT}, NEW),
    "systemd-boot, counted": (SYSTEMD, entries("nixos-generation-5.conf", **{"5+3-1": NEW, "4": OLD}), NEW),
    "systemd-boot, a pattern and counted": (SYSTEMD, entries("nixos-*", **{"10+3": NEW, "9": OLD}), NEW),
    "systemd-boot, a pattern and a bad entry": (SYSTEMD, entries("nixos-*", **{"10+0-3": OLD, "9": NEW}), NEW),
    "systemd-boot, on another file system": (
        SYSTEMD,
        {f"boot/efi/{LOADER[5:]}": "default a.conf\n", "boot/loader/entries/a.conf": entry(NEW)},
        NEW,
    ),
    "systemd-boot, what was chosen last": (SYSTEMD, entries("@saved", **{"2": NEW}), ""),
    "systemd-boot, images": (SYSTEMD, {**entries("nixos-*", **{"1": OLD}), "boot/EFI/Linux/nixos-2.efi": ""}, ""),
    "systemd-boot, an old menu of grub": (SYSTEMD, LEFT, ""),
    "another loader": ("bootinstall", {}, ""),
    "another loader with a menu that fits": (
        "bootinstall",
        entries("a*", **{"2": OLD}) | entries("nixos-*", **{"3": NEW}),
        NEW,
    ),
    "another loader with old menus": ("bootinstall", {**entries("nixos-*", **{"1": OLD}), **LEFT}, ""),
    "none, with an old menu": ("true", LEFT, ""),
}


def run(root: Path, shell: list[str], command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the script with a directory as the machine's root."""
    text = re.sub(r"(?<=[\s\"=])/(boot|efi|sbin|run)", rf"{root}/\1", script("machine/system"))
    return subprocess.run([*shell, "-c", f"{text}\n{command}"], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize("menu", MENUS)
def test_the_menu_of_the_boot_loader_that_the_system_installs(tmp_path, shell, menu):
    loader, files, expected = MENUS[menu]
    # What NEW is in the machine's store: its path has to be the one that the menus name.
    profile = tmp_path / "profile"
    program = profile / "bin" / "switch-to-configuration"
    program.parent.mkdir(parents=True)
    program.write_text((WRAPPED if "dash" in shell else PERL).format(HASH, loader))
    for number, (name, text) in enumerate(files.items()):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        os.utime(file, (number, number))
    stub = f'toplevel() {{ echo "{NEW}"; }}\n'
    done = run(tmp_path, shell, f'{stub}boot_default "{profile}"')
    assert (done.stdout.strip(), done.stderr) == (expected, "")


# A part of the booted system, of the new one, and whether only a reboot replaces it.
PARTS = [("a", "a", False), ("a", "b", True), (None, "b", False), ("a", None, False), (None, None, False)]


# Busybox' own readlink follows one link only.
@pytest.mark.parametrize("shell", SHELLS[:2], ids=" ".join)
@pytest.mark.parametrize(("booted", "new", "expected"), PARTS)
def test_one_rule_tells_whether_a_reboot_is_needed(tmp_path, shell, booted, new, expected):
    for name in "ab":
        (tmp_path / name).touch()
    for system, part in (("run/booted-system", booted), ("new", new)):
        (tmp_path / system).mkdir(parents=True)
        if part:
            (tmp_path / system / "initrd").symlink_to(tmp_path / part)
    found = run(tmp_path, shell, f'has_other_parts "{tmp_path}/new"')
    assert (found.returncode, found.stderr) == (0 if expected else 1, "")
    paths = [str(tmp_path / part) if part else None for part in (booted, new)]
    assert differs(*paths) is expected
    known = {"initrd": paths[0]} if paths[0] else {}
    assert difference.reboot_parts(known, str(tmp_path / "new")) == (("initrd",) if expected else ())


# Which file system a directory is on: its type, its number, where it is mounted; and the new system's fstab.
PLACES = {
    "the store's own": ("ext2/ext3", "1", "/", "", True),
    "the store's own, in memory": ("tmpfs", "1", "/", "", False),
    "another one of the new system": ("ext2/ext3", "2", "/var", "/dev/vdb /var ext4 defaults 0 2", True),
    "another one that is emptied": ("ext2/ext3", "2", "/var", "none /var tmpfs defaults 0 0", False),
    "one that the new system does not mount": ("ext2/ext3", "2", "/var", "/dev/vdb /data ext4 defaults 0 2", False),
}


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize("place", PLACES)
def test_what_is_written_for_the_next_boot_has_to_be_there_then(tmp_path, shell, place):
    kind, number, point, fstab, expected = PLACES[place]
    (tmp_path / "new" / "etc").mkdir(parents=True)
    (tmp_path / "new" / "etc" / "fstab").write_text(f"# comment\n{fstab}\n")
    stub = f"""stat() {{
        case "$*" in
            '-f -c %T /kept') echo {kind} ;;
            '-c %d /kept') echo {number} ;;
            '-c %d '*) echo 1 ;;
            '-c %m /kept') echo {point} ;;
        esac
    }}
    """
    assert run(tmp_path, shell, f'{stub}outlives_reboot /kept "{tmp_path}/new"').returncode == (0 if expected else 1)
