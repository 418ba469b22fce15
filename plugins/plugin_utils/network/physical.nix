# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The configuration that NixOps' backend for existing machines adds to a machine, and that of our own options.
# It does not depend on which machines are in a run.
# `addresses` are those of all machines if they are known, so that the others need not be evaluated.
{
  nodes,
  remembered,
  addresses,
}:
{ lib, ... }:

let
  # A machine with another tool's options may lack this one.
  known =
    if addresses != null then
      addresses
    else
      lib.mapAttrs (_: node: node.config.networking.publicIPv4 or null) nodes;
  addressed = lib.filter (name: known.${name} != null) (lib.attrNames known);
  hostsLine = name: "${known.${name}} ${name} ${name}-unencrypted\n";
in
{
  # Names the place of these definitions, as in nix.ops.show_option.
  _file = ./physical.nix;

  imports = [
    ./boot-guard.nix
    ./health-checks.nix
    ./keys.nix
  ];

  # Not nixpkgs' default: that changes with every upgrade, and its warning would be lost.
  # Weaker than mkDefault, which a network may use.
  system.stateVersion = lib.mkIf (remembered ? stateVersion) (
    lib.mkOverride 1400 remembered.stateVersion
  );
  networking.extraHosts = lib.mkIf (addressed != [ ]) (lib.concatMapStrings hostsLine addressed);
  users.users.root.openssh.authorizedKeys.keys =
    lib.optional (remembered ? sshPublicKey) remembered.sshPublicKey;
}
