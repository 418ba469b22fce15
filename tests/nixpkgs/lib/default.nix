# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# The part of nixpkgs' lib that ordinary configurations use, under the same names.
let
  fix = f: let x = f x; in x;
  parts = lib: rec {
    trivial = import ./trivial.nix { inherit lib; };
    attrsets = import ./attrsets.nix { inherit lib; };
    lists = import ./lists.nix { inherit lib; };
    strings = import ./strings.nix { inherit lib; };
    fixedPoints = import ./fixed-points.nix { inherit lib; };
    options = import ./options.nix { inherit lib; };
    types = import ./types.nix { inherit lib; };
    modules = import ./modules.nix { inherit lib; };
    asserts = {
      assertMsg = condition: message: condition || throw message;
      assertOneOf = name: value: values:
        asserts.assertMsg (builtins.elem value values) "${name} must be one of ${lib.generators.toPretty { } values}";
    };
    generators = {
      toPretty = _: lib.options.showValue;
      toJSON = _: builtins.toJSON;
      toKeyValue = { mkKeyValue ? (k: v: "${k}=${toString v}"), listsAsDuplicateKeys ? false }: attrs:
        lib.concatStrings (lib.concatLists (lib.mapAttrsToList
          (k: v: map (item: mkKeyValue k item + "\n") (if listsAsDuplicateKeys then lib.toList v else [ v ]))
          attrs));
    };
    licenses = lib.genAttrs [ "mit" "gpl3Plus" "gpl2Only" "asl20" ] (name: { shortName = name; });
    maintainers = { };
    platforms = { linux = [ "x86_64-linux" "aarch64-linux" ]; all = platforms.linux; };
    systems = { examples = { }; };
    cli = { };
  };
in
fix (lib:
  let p = parts lib; in
  builtins // p.trivial // p.attrsets // p.lists // p.strings // p.fixedPoints // p.options // p.modules // p.asserts
  // p // { inherit lib; extend = f: fix (self: lib // f self lib); })
