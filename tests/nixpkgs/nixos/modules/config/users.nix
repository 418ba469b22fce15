# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
{ config, lib, pkgs, utils, ... }:
let
  cfg = config.users;
  inherit (lib) mkOption types;
  text = default: description: mkOption { type = types.nullOr types.str; inherit default description; };

  user = { name, config, ... }: {
    options = {
      name = mkOption { type = types.strMatching "[a-z_][a-z0-9_-]*"; default = name; description = "The user's name."; };
      description = mkOption { type = types.strMatching "[^:\n]*"; default = ""; description = "The user's full name."; };
      uid = mkOption { type = types.nullOr types.int; default = null; description = "The user's number; the next free one where it is null."; };
      group = mkOption { type = types.str; default = if config.isNormalUser then "users" else ""; description = "The user's first group."; };
      extraGroups = mkOption { type = types.listOf types.str; default = [ ]; description = "The user's other groups."; };
      home = mkOption { type = types.strMatching "/[^:\n]*"; default = if config.isNormalUser then "/home/${name}" else "/var/empty"; description = "The user's home."; };
      createHome = mkOption { type = types.bool; default = config.isNormalUser; description = "Whether the home is made."; };
      shell = mkOption {
        type = types.nullOr (types.either types.path types.package);
        default = if config.isNormalUser then cfg.defaultUserShell else null;
        description = "The user's login shell.";
      };
      isNormalUser = mkOption { type = types.bool; default = false; description = "Whether this is a person's account."; };
      isSystemUser = mkOption { type = types.bool; default = false; description = "Whether this is a service's account."; };
      password = text null "The user's password.";
      initialPassword = text null "The user's password when the account is made.";
      hashedPassword = text null "The user's password, hashed.";
      initialHashedPassword = text null "The user's hashed password when the account is made.";
      packages = mkOption { type = types.listOf types.package; default = [ ]; description = "Packages for the user."; };
      openssh.authorizedKeys.keys = mkOption {
        type = types.listOf types.singleLineStr;
        default = [ ];
        description = "Public keys that may log in as the user.";
      };
      openssh.authorizedKeys.keyFiles = mkOption {
        type = types.listOf types.path;
        default = [ ];
        description = "Files of public keys that may log in as the user.";
      };
    };
  };

  group = { name, ... }: {
    options = {
      name = mkOption { type = types.str; default = name; description = "The group's name."; };
      gid = mkOption { type = types.nullOr types.int; default = null; description = "The group's number."; };
      members = mkOption { type = types.listOf types.str; default = [ ]; description = "Users of the group."; };
    };
  };

  users = lib.attrValues cfg.users;
  shellOf = u: if u.shell == null then "" else utils.toShellPath u.shell;
  groupsOf = u: lib.unique (u.extraGroups
    ++ map (g: g.name) (lib.filter (g: lib.elem u.name g.members) (lib.attrValues cfg.groups)));
  keysOf = u: u.openssh.authorizedKeys.keys ++ map builtins.readFile u.openssh.authorizedKeys.keyFiles;
  nullable = value: if value == null then "" else toString value;

  groupLines = lib.concatMapStrings (g: "${g.name}:${nullable g.gid}\n") (lib.attrValues cfg.groups);
  userLines = lib.concatMapStrings
    (u: lib.concatStringsSep ":" [
      u.name
      (nullable u.uid)
      u.group
      (lib.concatStringsSep "," (groupsOf u))
      u.home
      (lib.optionalString u.createHome "yes")
      (shellOf u)
      (lib.optionalString u.isSystemUser "yes")
      (nullable (if u.hashedPassword != null then u.hashedPassword else u.initialHashedPassword))
      u.description
    ] + "\n")
    users;
in
{
  imports = [
    (lib.mkAliasOptionModule [ "users" "extraUsers" ] [ "users" "users" ])
    (lib.mkAliasOptionModule [ "users" "extraGroups" ] [ "users" "groups" ])
  ];

  options.users = {
    mutableUsers = mkOption { type = types.bool; default = true; description = "Whether users made by hand are kept."; };
    defaultUserShell = mkOption { type = types.either types.path types.package; default = "/bin/bash"; description = "Login shell of normal users."; };
    users = mkOption { type = types.attrsOf (types.submodule user); default = { }; description = "Users."; };
    groups = mkOption { type = types.attrsOf (types.submodule group); default = { }; description = "Groups."; };
    motd = text null "Message of the day.";
  };

  config = {
    assertions = map
      (u: {
        assertion = u.name == "root" || u.isNormalUser != u.isSystemUser;
        message = "Exactly one of users.users.${u.name}.isSystemUser and users.users.${u.name}.isNormalUser must be set.";
      })
      users ++ map
      (u: {
        assertion = u.group != "";
        message = "users.users.${u.name}.group is unset.";
      })
      users;
    users.users.root = { uid = 0; group = "root"; home = "/root"; };
    users.groups = { root.gid = 0; wheel = { }; users = { }; };
    environment.etc = lib.listToAttrs (map
      (u: lib.nameValuePair "ssh/authorized_keys.d/${u.name}" {
        # Copied, as sshd refuses a file in a directory that a group may write to, such as the store.
        mode = "0444";
        text = lib.concatMapStrings (key: key + "\n") (keysOf u);
      })
      (lib.filter (u: keysOf u != [ ]) users))
    // lib.optionalAttrs (cfg.motd != null) { motd.text = cfg.motd; };
    system.activationScripts.users.text = ''
      ${pkgs.runtimeShell} ${./update-users.sh} ${pkgs.writeText "groups" groupLines} ${pkgs.writeText "users" userLines}
    '';
    system.activationScripts.groups.text = ":";
    environment.systemPackages = lib.concatMap (u: u.packages) users;
  };
}
