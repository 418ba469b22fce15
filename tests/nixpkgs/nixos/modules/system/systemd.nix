# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
{ config, lib, pkgs, ... }:
let
  cfg = config.systemd;
  inherit (lib) concatStrings mapAttrsToList mkOption optionalAttrs types;
  shown = value: if value == true then "true" else if value == false then "false" else toString value;
  # Never without its header: an empty file would be a masked unit.
  section = name: settings: "[${name}]\n${concatStrings (mapAttrsToList
    (key: value: concatStrings (map (v: "${key}=${shown v}\n") (lib.toList value)))
    settings)}";
  settings = description: mkOption {
    type = types.attrsOf (types.oneOf [ types.bool types.int types.float types.path types.package types.str (types.listOf types.unspecified) ]);
    default = { };
    inherit description;
  };
  names = description: mkOption { type = types.listOf types.str; default = [ ]; inherit description; };
  flag = default: description: mkOption { type = types.bool; inherit default description; };
  script = description: mkOption { type = types.lines; default = ""; inherit description; };

  dependencies = {
    after = "After";
    before = "Before";
    bindsTo = "BindsTo";
    conflicts = "Conflicts";
    onFailure = "OnFailure";
    partOf = "PartOf";
    requires = "Requires";
    requisite = "Requisite";
    wants = "Wants";
  };

  unit = {
    options = lib.mapAttrs (_: key: names "Units of `${key}=`.") dependencies // {
      enable = flag true "Whether the unit may be started; it is masked otherwise.";
      description = mkOption { type = types.singleLineStr; default = ""; description = "What the unit is."; };
      documentation = names "Where to read about the unit.";
      wantedBy = names "Units that want this one.";
      requiredBy = names "Units that require this one.";
      aliases = names "Other names of the unit.";
      unitConfig = settings "Settings of the section `[Unit]`.";
      restartTriggers = mkOption { type = types.listOf types.unspecified; default = [ ]; description = "What restarts the unit when it changes."; };
      reloadTriggers = mkOption { type = types.listOf types.unspecified; default = [ ]; description = "What reloads the unit when it changes."; };
    };
  };
  unitSection = name: u:
    let
      listed = lib.filterAttrs (_: value: value != "") (lib.mapAttrs' (option: key: lib.nameValuePair key (toString u.${option})) dependencies);
      triggers = kind: values: optionalAttrs (values != [ ]) {
        "X-${kind}-Triggers" = "${pkgs.writeText "X-${kind}-Triggers-${lib.sanitizeDerivationName name}" (toString values)}";
      };
    in
    section "Unit" (listed
      // optionalAttrs (u.description != "") { Description = u.description; }
      // optionalAttrs (u.documentation != [ ]) { Documentation = toString u.documentation; }
      // triggers "Restart" u.restartTriggers // triggers "Reload" u.reloadTriggers
      // u.unitConfig);

  service = {
    options = {
      serviceConfig = settings "Settings of the section `[Service]`.";
      environment = mkOption {
        type = types.attrsOf (types.nullOr (types.oneOf [ types.str types.path types.package ]));
        default = { };
        description = "The service's environment.";
      };
      path = mkOption { type = types.listOf (types.oneOf [ types.package types.str ]); default = [ ]; description = "Packages in the service's PATH."; };
      script = script "What the service does.";
      scriptArgs = mkOption { type = types.str; default = ""; description = "Arguments of the script."; };
      preStart = script "What is done before the service starts.";
      postStart = script "What is done after the service started.";
      preStop = script "What is done to stop the service.";
      postStop = script "What is done after the service stopped.";
      reload = script "What is done to reload the service.";
      restartIfChanged = flag true "Whether a change restarts the service.";
      reloadIfChanged = flag false "Whether a change reloads the service instead of restarting it.";
      stopIfChanged = flag true "Whether a change stops the service before, and starts it after the activation.";
      startAt = mkOption {
        type = types.coercedTo types.str lib.singleton (types.listOf types.str);
        default = [ ];
        description = "When the service is started.";
      };
    };
    config.path = lib.mkAfter [ pkgs.busybox pkgs.systemd ];
  };
  jobScript = unit: text:
    let name = lib.replaceStrings [ "@" "\\" ] [ "-" "-" ] unit; in
    "${pkgs.writeShellScriptBin name "set -e\n${text}\n"}/bin/${name}";
  serviceText = name: s:
    let
      job = key: step: text: optionalAttrs (text != "") { ${key} = jobScript "${name}-${step}" text; };
      environment = lib.filterAttrs (_: v: v != null) ({ PATH = lib.makeBinPath s.path; } // s.environment);
    in
    unitSection name s + section "Service" (
      optionalAttrs (!s.restartIfChanged) { X-RestartIfChanged = false; }
      // optionalAttrs s.reloadIfChanged { X-ReloadIfChanged = true; }
      // optionalAttrs (!s.stopIfChanged) { X-StopIfChanged = false; }
      // job "ExecStartPre" "pre-start" s.preStart
      // optionalAttrs (s.script != "") { ExecStart = jobScript "${name}-start" s.script + lib.optionalString (s.scriptArgs != "") " ${s.scriptArgs}"; }
      // job "ExecStartPost" "post-start" s.postStart
      // job "ExecReload" "reload" s.reload
      // job "ExecStop" "pre-stop" s.preStop
      // job "ExecStopPost" "post-stop" s.postStop
      // s.serviceConfig
    ) + concatStrings (mapAttrsToList (n: v: "Environment=${builtins.toJSON "${n}=${toString v}"}\n") environment);

  unitsOf = suffix: text: lib.mapAttrs' (name: u: lib.nameValuePair "${name}.${suffix}" {
    inherit (u) enable wantedBy requiredBy aliases;
    text = text name u;
  });
  kind = description: modules: mkOption { type = types.attrsOf (types.submodule modules); default = { }; inherit description; };

  unitPackage = name: u:
    if !u.enable then "/dev/null"
    else "${pkgs.writeTextFile { name = "unit-${lib.sanitizeDerivationName name}"; destination = "/${name}"; inherit (u) text; }}/${name}";
  links = name: u:
    [ "${name} ${unitPackage name u}" ]
    ++ map (alias: "${alias} ${name}") u.aliases
    ++ map (target: "${target}.wants/${name} ../${name}") u.wantedBy
    ++ map (target: "${target}.requires/${name} ../${name}") u.requiredBy;
  # Targets come from the machine's own systemd; a switch starts those among them that are active, and so
  # what is new in them.
  upstreamTargets = [
    "basic" "emergency" "local-fs" "multi-user" "network" "network-online" "paths" "rescue" "slices" "sockets" "sysinit" "timers"
  ];
in
{
  options.systemd = {
    package = mkOption { type = types.package; default = pkgs.systemd; description = "The systemd to use: the machine's own, whatever is given."; };
    services = kind "Services." [ unit service ];
    timers = kind "Timers." [ unit { options.timerConfig = settings "Settings of the section `[Timer]`."; } ];
    paths = kind "Paths." [ unit { options.pathConfig = settings "Settings of the section `[Path]`."; } ];
    slices = kind "Slices." [ unit { options.sliceConfig = settings "Settings of the section `[Slice]`."; } ];
    targets = kind "Targets." [ unit ];
    sockets = kind "Sockets." [
      unit
      {
        options.socketConfig = settings "Settings of the section `[Socket]`.";
        options.listenStreams = names "Addresses of `ListenStream=`.";
      }
    ];
    units = mkOption {
      type = types.attrsOf (types.submodule {
        options = {
          text = mkOption { type = types.lines; description = "The unit's text."; };
          enable = flag true "Whether the unit may be started; it is masked otherwise.";
          wantedBy = names "Units that want this one.";
          requiredBy = names "Units that require this one.";
          aliases = names "Other names of the unit.";
        };
      });
      default = { };
      description = "Units of any kind.";
    };
    defaultUnit = mkOption { type = types.str; default = "multi-user.target"; description = "What is started at boot."; };
    packages = mkOption { type = types.listOf types.package; default = [ ]; description = "Packages with units in lib/systemd/system."; };
    tmpfiles.rules = names "Rules of systemd-tmpfiles.";
  };

  config = {
    systemd.targets.keys = { description = "Security Keys"; unitConfig.X-StopOnReconfiguration = true; };
    systemd.units =
      unitsOf "service" serviceText cfg.services
      // unitsOf "timer" (name: u: unitSection name u + section "Timer" u.timerConfig) cfg.timers
      // unitsOf "path" (name: u: unitSection name u + section "Path" u.pathConfig) cfg.paths
      // unitsOf "slice" (name: u: unitSection name u + section "Slice" u.sliceConfig) cfg.slices
      // unitsOf "target" unitSection cfg.targets
      // unitsOf "socket"
        (name: u: unitSection name u
          + section "Socket" ({ ListenStream = u.listenStreams; } // u.socketConfig))
        cfg.sockets;
    systemd.timers = lib.mapAttrs
      (_: s: { wantedBy = [ "timers.target" ]; timerConfig.OnCalendar = s.startAt; })
      (lib.filterAttrs (_: s: s.startAt != [ ]) cfg.services);

    environment.etc."systemd/system".source = pkgs.runCommandLocal "system-units"
      {
        links = lib.concatMapStrings (link: link + "\n") (
          lib.concatLists (mapAttrsToList links cfg.units)
          ++ map (name: "${name}.target /lib/systemd/system/${name}.target") upstreamTargets
          ++ [
            "default.target ${cfg.defaultUnit}"
            # It runs anew whenever multi-user.target is started, and would show in every switch.
            "systemd-update-utmp-runlevel.service /dev/null"
          ]
        );
        packages = map toString cfg.packages;
        passAsFile = [ "links" ];
      }
      (builtins.readFile ./unit-tree.sh);
    environment.etc."tmpfiles.d/00-nixos.conf".text = lib.concatMapStrings (rule: rule + "\n") cfg.tmpfiles.rules;
    system.build.units = config.environment.etc."systemd/system".source;
  };
}
