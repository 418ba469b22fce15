#!@shell@
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
# Switches to the system it belongs to: with the actions, decisions, messages and exit codes of NixOS' own, as
# tests/nixpkgs/switching.toml has them for each of its variants.
#
# 1: usage, a pre-switch check or the boot loader failed; 2: activation failed; 3: systemd could not be reloaded;
# 4: a unit failed; 11: another switch is under way; 100: only a reboot can make this system the running one
set -uf
toplevel='@out@'
# perl or ng
variant='@variant@'
export PATH='@busybox@/bin:/usr/sbin:/usr/bin:/sbin:/bin'
old_units=/etc/systemd/system
new_units=$toplevel/etc/systemd/system
remembered=/run/nixos
action=${1-}

say() {
    printf '%s\n' "$*" >&2
}

case $action in
check | switch | boot | test | dry-activate) ;;
*)
    cat >&2 <<USAGE
Usage: $0 [check|switch|boot|test|dry-activate]

check:        run pre-switch checks and exit
switch:       make the configuration the boot default and activate now
boot:         make the configuration the boot default
test:         activate the configuration, but don't make it the boot default
dry-activate: show what would be done if this configuration were activated
USAGE
    exit 1
    ;;
esac
export NIXOS_ACTION="$action"

if ! [ -e /etc/NIXOS ] && ! grep -q '^ID="\?nixos' /etc/os-release 2>/dev/null; then
    say "This is not a NixOS installation!"
    exit 1
fi

mkdir -p "$remembered"
exec 9>>"$remembered/switch-to-configuration.lock"
if ! flock -n 9; then
    say "Could not acquire lock"
    exit 11
fi

if [ "${NIXOS_NO_CHECK-}" != 1 ] && ! '@preSwitchChecks@' "$toplevel" "$action" 9>&-; then
    say "Pre-switch checks failed"
    exit 1
fi
if [ "$action" = check ]; then exit 0; fi

if [ "$action" = switch ] || [ "$action" = boot ]; then
    if ! '@installBootLoader@' "$toplevel" 9>&-; then
        say "Failed to install bootloader"
        exit 1
    fi
fi

# Should the new configuration hang the machine, it shall find all of it at the next boot.
if [ "${NIXOS_NO_SYNC-}" != 1 ]; then sync -f /nix/store; fi
if [ "$action" = boot ]; then exit 0; fi

if [ "$(cat /run/current-system/init-interface-version 2>/dev/null)" != "$(cat "$toplevel/init-interface-version")" ]; then
    say "Warning: the new NixOS configuration has an 'init' that is
incompatible with the current configuration.  The new configuration
won't take effect until you reboot the system."
    exit 100
fi

trap '' HUP PIPE

# Sets of units are lists separated by spaces, as no unit's name has one.
has() {
    case " $1 " in *" $2 "*) true ;; *) false ;; esac
}

sorted() {
    # shellcheck disable=SC2086
    set -- $1
    if [ $# -gt 0 ]; then printf '%s\n' "$@" | sort -u; fi
}

announce() {
    # $1: what is done; $2: to which units
    if [ -n "$2" ]; then say "$1: $(sorted "$2" | paste -s -d, | sed 's/,/, /g')"; fi
}

# Remembered in files, so that a switch that was interrupted is completed by the next one.
remember() {
    if [ "$action" != dry-activate ]; then printf '%s\n' "$2" >>"$remembered/$1-list"; fi
}

recall() {
    if [ -e "$remembered/$1-list" ]; then paste -s -d' ' "$remembered/$1-list"; fi
}

setting() {
    # $1: a unit's file; $2: a key; $3: its value where the unit does not say
    value=$(sed -n "s/^$2=//p" "$1" 2>/dev/null | tail -n 1)
    printf %s "${value:-$3}"
}

is_set() {
    case $(setting "$1" "$2" "$3") in yes | true | on | 1) true ;; *) false ;; esac
}

# How a unit's new file differs: equal, reload or restart.
difference() {
    if [ "$(readlink -f "$1")" = "$(readlink -f "$2")" ]; then
        echo equal
    elif [ "$(relevant "$1")" != "$(relevant "$2")" ]; then
        echo restart
    elif [ "$(setting "$1" X-Reload-Triggers '')" != "$(setting "$2" X-Reload-Triggers '')" ]; then
        echo reload
    else
        echo equal
    fi
}

relevant() {
    sed -e '/^X-Reload-Triggers=/d' -e '/^Description=/d' -e '/^Documentation=/d' "$1"
}

# Units that are not inactive, a line each: name, state, substate.
active_units() {
    systemctl list-units --all --full --plain --no-legend --no-pager | awk '$3 != "inactive" { print $1, $3, $4 }'
}

stop='' skip='' filtered=''
start=$(recall start)
restart=$(recall restart)
reload=$(recall reload)

consider_change() {
    # $1: a unit that has changed; $2: its file's name without the suffix; $3: its new file; $4: how it differs
    case $1 in
    sysinit.target | basic.target | multi-user.target | graphical.target | *.path | *.slice)
        return
        ;;
    *.mount)
        reload="$reload $1"
        remember reload "$1"
        return
        ;;
    esac

    if [ "$4" = reload ] || is_set "$3" X-ReloadIfChanged no; then
        reload="$reload $1"
        remember reload "$1"
    elif ! is_set "$3" X-RestartIfChanged yes || is_set "$3" RefuseManualStop no || is_set "$3" X-OnlyManualStart no; then
        skip="$skip $1"
    elif ! is_set "$3" X-StopIfChanged yes || [ "${1%.service}" = "$1" ]; then
        restart="$restart $1"
        remember restart "$1"
    else
        socket_activated=
        for socket in $(setting "$3" Sockets "$2.socket"); do
            if has "$active_names" "$socket"; then
                stop="$stop $socket"
                if [ -e "$new_units/$socket" ]; then
                    start="$start $socket"
                    remember start "$socket"
                    socket_activated=yes
                fi
            fi
        done
        if [ -z "$socket_activated" ]; then
            start="$start $1"
            remember start "$1"
        fi
        stop="$stop $1"
    fi
}

consider() {
    # $1: a unit; $2: its state
    file=$1
    if ! [ -e "$old_units/$file" ] && ! [ -e "$new_units/$file" ]; then
        case $1 in *@*.*) file=${1%%@*}@.${1##*.} ;; esac
    fi
    old=$old_units/$file
    new=$new_units/$file
    if ! [ -e "$old" ]; then return; fi
    if [ "$2" != active ] && [ "$2" != activating ]; then return; fi

    if ! [ -e "$new" ] || [ "$(readlink -f "$new")" = /dev/null ]; then
        if is_set "$old" X-StopOnRemoval yes; then stop="$stop $1"; fi
        return
    fi

    case $1 in
    suspend.target | hibernate.target | hybrid-sleep.target)
        return
        ;;
    *.target)
        # To start an active target starts what is new in it.
        if ! is_set "$new" RefuseManualStart no && ! is_set "$new" X-OnlyManualStart no; then
            start="$start $1"
            filtered="$filtered $1"
            remember start "$1"
        fi
        if is_set "$new" X-StopOnReconfiguration no; then stop="$stop $1"; fi
        ;;
    *)
        differs=$(difference "$old" "$new")
        if [ "$differs" != equal ]; then consider_change "$1" "${file%.*}" "$new" "$differs"; fi
        ;;
    esac
}

active_before=$(active_units)
active_names=$(printf '%s\n' "$active_before" | awk '{ printf "%s ", $1 }')
while read -r unit state _; do
    consider "$unit" "$state"
done <<UNITS
$active_before
UNITS

shown() {
    # $1: units; those that are always started are not worth a word
    for unit in $1; do
        if ! has "$filtered" "$unit"; then printf '%s ' "$unit"; fi
    done
}

if [ "$action" = dry-activate ]; then
    announce "would stop the following units" "$(shown "$stop")"
    announce "would NOT stop the following changed units" "$skip"
    say "would activate the configuration..."
    "$toplevel/dry-activate" "$toplevel" 9>&-
    announce "would reload the following units" "$reload"
    announce "would restart the following units" "$restart"
    announce "would start the following units" "$(shown "$start")"
    exit 0
fi

log() {
    logger -t nixos -p "user.$1" "$2" 2>/dev/null || :
}

# $1: what systemctl shall do; $2: to which units
command_units() {
    verb=$1
    # shellcheck disable=SC2046
    set -- $(sorted "$2")
    if [ $# -gt 0 ]; then systemctl "$verb" -- "$@" 9>&-; fi
}

log notice "switching to system configuration $toplevel"
result=0

announce "stopping the following units" "$(shown "$stop")"
command_units stop "$stop"
announce "NOT restarting the following changed units" "$skip"

say "activating the configuration..."
if ! "$toplevel/activate" "$toplevel" 9>&-; then
    say "Failed to run activate script"
    result=2
fi

# Forget what failed earlier: what is failed at the end, failed now.
systemctl reset-failed
systemctl daemon-reload || result=3

loginctl list-users --no-legend 2>/dev/null | while read -r uid name _; do
    say "reloading user units for $name..."
    runuser -u "$name" -- env XDG_RUNTIME_DIR="/run/user/$uid" systemctl --user daemon-reexec </dev/null 9>&-
done

if [ "$variant" = ng ]; then say "restarting sysinit-reactivation.target"; else say "setting up tmpfiles"; fi
# Errors only: Debian's own rules name some paths twice, and are warned of.
SYSTEMD_LOG_LEVEL=err systemd-tmpfiles --create --remove --exclude-prefix=/dev 9>&- || result=3

# $1: how; $2: which units; $3: how it is said
failed_jobs=
apply() {
    announce "$3 the following units" "$(shown "$2")"
    if [ "$variant" = ng ]; then
        # One by one, to know which of them failed.
        for unit in $(sorted "$2"); do
            command_units "$1" "$unit" || { result=4 failed_jobs="$failed_jobs $1 $unit"; }
        done
    else
        command_units "$1" "$2" || result=4
    fi
    rm -f "$remembered/$1-list"
}
apply reload "$reload" reloading
apply restart "$restart" restarting
apply start "$start" starting
if [ "$variant" = ng ] && [ -n "$failed_jobs" ]; then
    # shellcheck disable=SC2086
    printf 'Failed to %s %s\n' $failed_jobs >&2
fi

failed='' new=''
active_after=$(active_units)
while read -r unit state substate; do
    if [ "$state" = failed ]; then
        failed="$failed $unit"
    elif [ "$substate" = auto-restart ]; then
        if [ "$(systemctl show -P ExecMainStatus -- "$unit")" != 0 ]; then failed="$failed $unit"; fi
    elif ! has "$active_names" "$unit"; then
        new="$new $unit"
    fi
done <<UNITS
$active_after
UNITS

announce "the following new units were started" "$new"
announce "warning: the following units failed" "$failed"
for unit in $failed; do
    say ""
    COLUMNS=1000 systemctl status --no-pager --full -- "$unit" >&2
    result=4
done

if [ "$result" = 0 ]; then
    log notice "finished switching to system configuration $toplevel"
else
    log err "switching to system configuration $toplevel failed (status $result)"
fi
exit "$result"
