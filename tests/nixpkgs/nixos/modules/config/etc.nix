# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
{ config, lib, pkgs, ... }:
let
  inherit (lib) mkOption types;
  files = lib.filter (f: f.enable) (lib.attrValues config.environment.etc);
  entry = { name, config, options, ... }: {
    options = {
      enable = mkOption { type = types.bool; default = true; description = "Whether the file is made."; };
      target = mkOption { type = types.str; default = name; description = "The file's name below `/etc`."; };
      text = mkOption { type = types.nullOr types.lines; default = null; description = "The file's text."; };
      source = mkOption { type = types.path; description = "What the file is."; };
      mode = mkOption { type = types.str; default = "symlink"; description = "The file's mode; it is copied where this is given."; };
      uid = mkOption { type = types.int; default = 0; description = "The copied file's user."; };
      gid = mkOption { type = types.int; default = 0; description = "The copied file's group."; };
      user = mkOption { type = types.str; default = "+${toString config.uid}"; description = "The copied file's user."; };
      group = mkOption { type = types.str; default = "+${toString config.gid}"; description = "The copied file's group."; };
    };
    config.source = lib.mkIf (config.text != null)
      (lib.mkOverride options.text.highestPrio (pkgs.writeText "etc-${baseNameOf name}" config.text));
  };
in
{
  options.environment.etc = mkOption {
    type = types.attrsOf (types.submodule entry);
    default = { };
    description = "Files below `/etc`.";
  };

  config = {
    system.build.etc = pkgs.runCommandLocal "etc"
      {
        files = lib.concatMapStrings (f: "${f.target} ${f.mode} ${f.user} ${f.group} ${f.source}\n") files;
        passAsFile = [ "files" ];
      }
      (builtins.readFile ./etc-tree.sh);
    system.activationScripts.etc = {
      deps = [ "users" "groups" ];
      text = ''
        echo "setting up /etc..."
        ${pkgs.runtimeShell} ${./setup-etc.sh} ${config.system.build.etc}/etc
      '';
    };
  };
}
