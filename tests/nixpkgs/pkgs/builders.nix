# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
{ lib, pkgs, system }:
let
  shell = "${pkgs.busybox}/bin/sh";

  # A string: a path would be copied to the store at each evaluation, and a pure one may not read it.
  computerBusybox = "/bin/busybox";

  mkDerivation = given:
    let
      attrs = if lib.isFunction given then lib.fix given else given;
      name = attrs.name or "${attrs.pname}-${attrs.version}";
      passed = removeAttrs attrs [ "meta" "passthru" "buildInputs" "nativeBuildInputs" "propagatedBuildInputs" "phases" ];
      inputs = lib.filter (p: p != null)
        (lib.concatMap (kind: attrs.${kind} or [ ]) [ "nativeBuildInputs" "buildInputs" "propagatedBuildInputs" ]);
      package = derivation (passed // {
        inherit name system;
        builder = shell;
        args = [ "-e" ./setup.sh ];
        PATH = lib.makeBinPath (inputs ++ [ pkgs.busybox ]);
      }) // attrs.passthru or { } // {
        inherit name;
        meta = attrs.meta or { };
        passthru = attrs.passthru or { };
        overrideAttrs = change: mkDerivation (attrs // (
          if !lib.isFunction change then change
          else let once = change attrs; in if lib.isFunction once then change (attrs // once attrs) attrs else once
        ));
      };
    in
    package // lib.optionalAttrs (attrs ? pname) { inherit (attrs) pname; } // lib.optionalAttrs (attrs ? version) { inherit (attrs) version; };

  platform = {
    inherit system;
    isLinux = true;
    isDarwin = false;
    isx86_64 = lib.hasPrefix "x86_64" system;
    isAarch64 = lib.hasPrefix "aarch64" system;
    linuxArch = lib.head (lib.splitString "-" system);
  };
in
rec {
  busybox = derivation
    {
      name = "busybox-1.35.0";
      inherit system;
      builder = computerBusybox;
      args = [ "sh" "-e" ./busybox.sh ];
      busybox = computerBusybox;
    } // { pname = "busybox"; version = "1.35.0"; meta = { }; };

  stdenv = {
    inherit mkDerivation shell system;
    hostPlatform = platform;
    buildPlatform = platform;
    targetPlatform = platform;
    inherit (platform) isLinux isDarwin isx86_64 isAarch64;
  };
  stdenvNoCC = stdenv;

  runCommand = name: env: buildCommand: mkDerivation ({ inherit name buildCommand; } // env);
  runCommandLocal = name: env: runCommand name (env // { preferLocalBuild = true; allowSubstitutes = false; });
  runCommandNoCC = runCommand;
  runCommandCC = runCommand;

  writeTextFile = { name, text, executable ? false, destination ? "", checkPhase ? "", meta ? { } }:
    runCommandLocal name { inherit text executable destination checkPhase meta; passAsFile = [ "text" ]; } ''
      target=$out$destination
      mkdir -p "$(dirname "$target")"
      cp "$textPath" "$target"
      if [ -n "$executable" ]; then chmod +x "$target"; fi
      eval "$checkPhase"
    '';
  writeText = name: text: writeTextFile { inherit name text; };
  writeTextDir = path: text: writeTextFile { name = baseNameOf path; destination = "/${path}"; inherit text; };
  writeScript = name: text: writeTextFile { inherit name text; executable = true; };
  writeScriptBin = name: text: writeTextFile { inherit name text; executable = true; destination = "/bin/${name}"; };
  writeShellScript = name: text: writeScript name "#!${shell}\n${text}";
  writeShellScriptBin = name: text: writeScriptBin name "#!${shell}\n${text}";
  writeShellApplication = { name, text, runtimeInputs ? [ ], ... }:
    writeShellScriptBin name "set -eu\nexport PATH=\"${lib.makeBinPath runtimeInputs}:$PATH\"\n${text}";

  # Where two paths have the same file, the first one's is taken.
  buildEnv = { name, paths, pathsToLink ? [ "/" ], postBuild ? "", extraPrefix ? "", meta ? { }, ignoreCollisions ? true, ... }:
    runCommandLocal name { paths = map toString paths; inherit pathsToLink postBuild meta; } (builtins.readFile ./build-env.sh);
  symlinkJoin = { name, paths, postBuild ? "", ... }: buildEnv { inherit name paths postBuild; };
  linkFarm = name: entries: runCommandLocal name { } ''
    mkdir -p "$out"; cd "$out"
    ${lib.concatMapStrings (e: ''
      mkdir -p "$(dirname ${lib.escapeShellArg e.name})"
      ln -s ${lib.escapeShellArg "${e.path}"} ${lib.escapeShellArg e.name}
    '') (if builtins.isList entries then entries else lib.mapAttrsToList (name: path: { inherit name path; }) entries)}
  '';
  emptyDirectory = runCommandLocal "empty-directory" { } "mkdir $out";
  emptyFile = runCommandLocal "empty-file" { } "touch $out";
}
