# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Evaluates network files, or the network of a flake, to machines. Files are merged attribute by attribute, and each
# definition of a machine becomes one of its modules.
{
  files,
  flake,
  arguments,
  name,
  uuid,
  remembered,
  addresses,
  loader,
  ofFlake ? null,
  description ? "Unnamed NixOps network",
  ...
}:

let
  system = builtins.currentSystem;

  call = value: if builtins.isFunction value then value arguments else value;
  read = file: call (import file) // { _file = file; };
  key = file: { key = toString file; };

  flakes = if ofFlake == null then [ ] else [ (call ofFlake // { _file = "<${flake}>"; }) ];

  closure = map (node: node.key) (
    builtins.genericClosure {
      startSet = map key (files ++ builtins.concatMap (network: network.require or [ ]) flakes);
      operator = node: map key ((read node.key).require or [ ]);
    }
  );

  networks =
    if
      arguments != { }
      && !builtins.isFunction ofFlake
      && !builtins.any (file: builtins.isFunction (import file)) closure
    then
      throw "the network takes no arguments, but was given: ${
        builtins.concatStringsSep ", " (builtins.attrNames arguments)
      }"
    else
      flakes ++ map read closure;

  attributes = builtins.foldl' (all: network: all // network) { } networks;

  # What colmena calls network. A machine may have the same name, but no package set.
  isMeta = value: builtins.isAttrs value && (value ? nixpkgs || value ? nodeNixpkgs);
  metas = builtins.filter isMeta (builtins.catAttrs "meta" networks);

  reserved = (if metas == [ ] then [ ] else [ "meta" ]) ++ [
    "network"
    "defaults"
    "resources"
    "require"
    "nixpkgs"
    "_file"
  ];
  names = builtins.attrNames (removeAttrs attributes reserved);

  settings = builtins.catAttrs "network" networks ++ metas;

  # Arguments of the modules that they may use for their imports.
  specialArgs =
    machine:
    builtins.foldl' (all: some: all // (some.specialArgs or { })) { } settings
    // builtins.foldl' (all: some: all // (some.nodeSpecialArgs.${machine} or { })) { } settings;

  # The input of a flake, which NixOps requires, or a path or a package set, since both are common.
  chosen = builtins.head (
    builtins.catAttrs "nixpkgs" (flakes ++ settings)
    ++ [ (if ofFlake == null then <nixpkgs> else throw "the flake's network has no attribute nixpkgs") ]
  );
  nixpkgs = chosen.path or chosen.outPath or chosen;

  importNixpkgs = loader.importFrom nixpkgs;

  lib = importNixpkgs (nixpkgs + "/lib");

  # A flake's own nixosSystem knows the revision of nixpkgs.
  evalConfig = chosen.lib.nixosSystem or (importNixpkgs (nixpkgs + "/nixos/lib/eval-config.nix"));

  packages = importNixpkgs nixpkgs {
    inherit system;
    config = { };
    overlays = [ ];
  };

  modulesOf =
    attribute:
    map (network: {
      imports = [ network.${attribute} ];
      inherit (network) _file;
    }) (builtins.filter (network: network ? ${attribute}) networks);

  stuff = machine: {
    key = "nix.ops";
    imports = [
      ./options.nix
      (import ./shared-packages.nix { inherit packages; })
      (
        { options, ... }:
        {
          options._nixOps.options = lib.mkOption {
            default = null;
            apply = _: options;
            internal = true;
          };
        }
      )
      (import ./physical.nix {
        inherit nodes addresses;
        remembered = remembered.${machine} or { };
      })
    ];
    networking.hostName = lib.mkOverride 900 machine;
    deployment = {
      targetHost = lib.mkOverride 900 machine;
      inherit name uuid arguments;
    };
    _module.args = {
      inherit nodes resources uuid;
      name = machine;
      deploymentName = name;
    };
  };

  evaluated =
    machine:
    evalConfig {
      inherit system;
      specialArgs = specialArgs machine;
      modules = modulesOf machine ++ modulesOf "defaults" ++ [ (stuff machine) ];
    };

  nodes = builtins.listToAttrs (
    map (name: {
      inherit name;
      value = evaluated name;
    }) names
  );

  resources = (builtins.foldl' (all: some: all // some) { } (builtins.catAttrs "resources" networks)) // {
    machines = builtins.mapAttrs (_: node: node.config) nodes;
  };
  hasOwnNixpkgs = builtins.any (meta: (meta.nodeNixpkgs or { }) != { }) metas;
  # Where another tool has made the resources, a network may say that they exist.
  ignoresResources = builtins.any (one: one.ignoreResources or false) settings;
  declared = builtins.filter (
    kind: resources.${kind} != { } && kind != "machines" && !ignoresResources
  ) (builtins.attrNames resources);
in
{
  machines =
    if declared != [ ] then
      throw "the network declares resources.${builtins.head declared}: no resources but machines are supported"
    else if hasOwnNixpkgs then
      throw "the network sets meta.nodeNixpkgs: all machines of a network have one nixpkgs"
    else
      nodes;
  again = evaluated;
  network =
    let
      merged = builtins.foldl' (all: some: all // some) { } settings;
    in
    {
      description = merged.description or description;
      enableRollback = merged.enableRollback or false;
    };
}
