# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the settings of Nix that a source may have."""

from __future__ import annotations


class ModuleDocFragment:
    """The option of the settings."""

    DOCUMENTATION = r"""
options:
  options:
    description:
      - Settings of Nix, as in C(nix.conf), by name.
      - A source may come with a repository of someone else. So it can only have settings that are harmless,
        V(allow-import-from-derivation), V(always-allow-substitutes), V(builders-use-substitutes), V(connect-timeout),
        V(cores), V(download-attempts), V(download-speed), V(extra-experimental-features), V(extra-substituters),
        V(fallback), V(http-connections), V(keep-build-log), V(keep-failed), V(keep-going), V(log-lines),
        V(max-build-log-size), V(max-call-depth), V(max-free), V(max-jobs), V(max-silent-time), V(min-free),
        V(show-trace), V(stalled-download-timeout), V(substitute), V(substituters), V(system-features), V(tarball-ttl),
        V(timeout) and V(warn-dirty). Other settings belong into the controller's C(nix.conf), or into the variable
        E(NIX_CONFIG).
    type: dict
    default: {}
"""
