# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Machines that NixOps made, as machines that exist already. nix.ops.import wrote this file, and machines.json beside it
# with where each machine was last reached. Both are yours: edit them, or move what is in them into your network.
let
  machines = builtins.fromJSON (builtins.readFile ./machines.json);

  # Options of what made the machines. They are accepted, and nothing reads them.
  kinds = [
    "azure"
    "container"
    "digitalOcean"
    "ec2"
    "gce"
    "hetzner"
    "hetznerCloud"
    "libvirtd"
    "packet"
    "route53"
    "virtualbox"
  ];
in
{
  # What NixOps made beside the machines exists already, too.
  network.ignoreResources = true;

  defaults =
    {
      name,
      lib,
      ...
    }:
    let
      machine = machines.${name};
    in
    {
      options.deployment = lib.genAttrs kinds (
        kind:
        lib.mkOption {
          type = lib.types.attrs;
          default = { };
          description = "Not used: the machine exists already.";
        }
      );
      config = lib.mkIf (machines ? ${name}) {
        deployment = {
          targetEnv = lib.mkForce "none";
          targetHost = lib.mkIf (machine ? address) (lib.mkOverride 800 machine.address);
          targetPort = lib.mkIf (machine ? port) (lib.mkOverride 800 machine.port);
          targetUser = lib.mkIf (machine ? user) (lib.mkOverride 800 machine.user);
        };
        networking = {
          privateIPv4 = lib.mkIf (machine ? privateIPv4) (lib.mkDefault machine.privateIPv4);
          publicIPv4 = lib.mkIf (machine ? publicIPv4) (lib.mkDefault machine.publicIPv4);
        };
      };
    };
}
