# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
{ lib, config, pkgs, system }:
let
  builders = import ./builders.nix { inherit lib pkgs system; };

  # Programs of the machine's own root, under a name of ours: nothing is built here, as nothing but busybox is at hand.
  fromRoot = pname: version: programs: builders.runCommand "${pname}-${version}"
    { inherit pname version programs; passthru = { inherit pname version; }; } ''
    mkdir -p "$out/bin"
    for program in $programs; do ln -s "$program" "$out/bin/''${program##*/}"; done
  '';

  linuxPackagesFor = version:
    let kernel = pkgs.callPackage ./kernel.nix { inherit version; }; in { inherit kernel; } // { recurseForDerivations = true; };
in
builders // {
  inherit lib config system;
  inherit (pkgs.stdenv) hostPlatform buildPlatform targetPlatform;
  path = ../.;
  pkgs = pkgs;
  callPackage = lib.callPackageWith pkgs;
  callPackages = lib.callPackageWith pkgs;
  newScope = extra: lib.callPackageWith (pkgs // extra);
  extend = overlay: import ../. { inherit system config; overlays = pkgs.overlays ++ [ overlay ]; };
  appendOverlays = overlays: import ../. { inherit system config; overlays = pkgs.overlays ++ overlays; };

  runtimeShell = "${pkgs.busybox}/bin/sh";
  coreutils = pkgs.busybox;
  gnugrep = pkgs.busybox;
  gnused = pkgs.busybox;
  gawk = pkgs.busybox;
  findutils = pkgs.busybox;
  gnutar = pkgs.busybox;
  gzip = pkgs.busybox;

  hello = pkgs.callPackage ./hello.nix { };
  cowsay = pkgs.callPackage ./cowsay.nix { };

  linuxPackages = pkgs.linuxPackages_6_6;
  linuxPackages_6_1 = linuxPackagesFor "6.1.92";
  linuxPackages_6_6 = linuxPackagesFor "6.6.32";
  linuxPackages_latest = linuxPackagesFor "6.9.2";

  systemd = fromRoot "systemd" "255.6"
    (map (name: "/usr/bin/${name}") [
      "busctl" "hostnamectl" "journalctl" "loginctl" "systemctl" "systemd-analyze" "systemd-cat" "systemd-cgls"
      "systemd-detect-virt" "systemd-escape" "systemd-inhibit" "systemd-notify" "systemd-run" "systemd-tmpfiles"
    ] ++ map (name: "/usr/sbin/${name}") [ "poweroff" "reboot" "shutdown" ]) // { interfaceVersion = 2; };
  nix = fromRoot "nix" "2.18.2" (map (name: "/usr/bin/${name}") [
    "nix" "nix-build" "nix-channel" "nix-collect-garbage" "nix-copy-closure" "nix-daemon" "nix-env" "nix-hash"
    "nix-instantiate" "nix-shell" "nix-store"
  ]);
  openssh = fromRoot "openssh" "9.7p1"
    (map (name: "/usr/bin/${name}") [ "ssh" "scp" "sftp" "ssh-add" "ssh-agent" "ssh-keygen" "ssh-keyscan" ] ++ [ "/usr/sbin/sshd" ]);
  iproute2 = fromRoot "iproute2" "6.9.0" [ "/usr/sbin/ip" "/usr/bin/ss" ];
  sudo = fromRoot "sudo" "1.9.15" [ "/usr/bin/sudo" ];
  procps = fromRoot "procps" "4.0.4" (map (name: "/usr/bin/${name}") [ "free" "pgrep" "pkill" "ps" "top" "uptime" ] ++ [ "/usr/sbin/sysctl" ]);
  util-linux = fromRoot "util-linux" "2.39.4"
    (map (name: "/usr/bin/${name}") [ "findmnt" "flock" "lsblk" "mount" "mountpoint" "nsenter" "setsid" "umount" ]
      ++ map (name: "/usr/sbin/${name}") [ "runuser" "swapoff" "swapon" ]);
  shadow = fromRoot "shadow" "4.14.6"
    (map (name: "/usr/sbin/${name}") [ "groupadd" "groupdel" "groupmod" "useradd" "userdel" "usermod" "chpasswd" ] ++ [ "/usr/bin/passwd" ]);
  bash = fromRoot "bash" "5.2p26" [ "/usr/bin/bash" ] // { shellPath = "/bin/bash"; };
  bashInteractive = pkgs.bash;
  fish = fromRoot "fish" "3.7.1" [ "/usr/bin/fish" ] // { shellPath = "/bin/fish"; };
}
