# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
[
  ./config/environment.nix
  ./config/etc.nix
  ./config/networking.nix
  ./config/users.nix
  ./misc/accepted.nix
  ./misc/assertions.nix
  ./misc/nixpkgs.nix
  ./misc/version.nix
  ./security/sudo.nix
  ./services/nginx.nix
  ./services/nix-daemon.nix
  ./services/openssh.nix
  ./system/activation.nix
  ./system/boot.nix
  ./system/switch-inhibitors.nix
  ./system/systemd.nix
  ./system/toplevel.nix
]
