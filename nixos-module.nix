# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Declares deployment.* for evaluations without nix.ops: of nixos-rebuild, nix eval and editors. A deploy declares the
# same by itself; module systems load it once then, whichever copy is imported.
import ./plugins/plugin_utils/network/options.nix
