# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What NixOps' backend for existing machines adds to a machine. Nothing here depends on
# which machines are in a run.
{ nodes, remembered }:
{ config, lib, ... }:

let
  addressed = lib.filter (name: nodes.${name}.config.networking.publicIPv4 != null) (lib.attrNames nodes);
  hostsLine = name: "${nodes.${name}.config.networking.publicIPv4} ${name} ${name}-unencrypted\n";
in
{
  system.stateVersion = lib.mkDefault (remembered.stateVersion or config.system.nixos.release);
  networking.extraHosts = lib.mkIf (addressed != [ ]) (lib.concatMapStrings hostsLine addressed);
  users.users.root.openssh.authorizedKeys.keys =
    lib.optional (remembered ? sshPublicKey) remembered.sshPublicKey;
}
