# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
{ stdenv, lib, runtimeShell, version ? "2.12.1" }:

stdenv.mkDerivation {
  pname = "hello";
  inherit version runtimeShell;
  installPhase = ''
    mkdir -p $out/bin
    printf '#!%s\necho "Hello, world! (hello %s)"\n' "$runtimeShell" "$version" >$out/bin/hello
    chmod +x $out/bin/hello
  '';
  meta = {
    description = "A program that produces a familiar, friendly greeting";
    license = lib.licenses.gpl3Plus;
    mainProgram = "hello";
  };
}
