# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# What a machine of the fleet runs before anyone deployed to it: just enough to be deployed to.
{
  services.openssh.enable = true;
  system.stateVersion = "24.05";
}
