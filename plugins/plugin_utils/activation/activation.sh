# shellcheck shell=sh disable=SC2154
# Starts an activation on a NixOS machine, detached from the connection that asks for it.
# The name of its systemd unit is the lock: systemd runs it only once, and it is gone when the activation has ended.
# Standard input: the job that the unit runs.

refuse() { # REASON TEXT
    echo "refused $1"
    echo "$2" >&2
    exit 0
}

refuse_busy() {
    unit=$nix_ops_activation_unit
    refuse busy "$(systemctl show --property=Description --value "$unit"), since $(systemctl show --property=ActiveEnterTimestamp --value "$unit")"
}

# Make the files that are written later: there may be no room for new ones then.
reserve() { # DIRECTORY
    for file in step code failed rolled_back.new rc.new; do
        echo - >"$1/$file" || return
    done
}

# ExecStopPost cleans up if the job was killed.
start_unit() { # DIRECTORY DESCRIPTION
    systemd-run --quiet --unit="$nix_ops_activation_unit" --collect --service-type=exec --description="$2" \
        --property=DefaultDependencies=no --property=IgnoreOnIsolate=yes \
        --property=KillMode=mixed --property=TimeoutStopSec=infinity --property=OOMScoreAdjust=-900 \
        --property=ExecStopPost="/bin/sh $1/job $1 guard" \
        --property=StandardOutput="append:$1/log" --property=StandardError="append:$1/log" \
        --setenv=PATH="$PATH" ${NIX_REMOTE:+"--setenv=NIX_REMOTE=$NIX_REMOTE"} \
        ${LOCALE_ARCHIVE:+"--setenv=LOCALE_ARCHIVE=$LOCALE_ARCHIVE"} \
        /bin/sh "$1/job" "$1" 2>&1
}

main() { # ID ACTION TOPLEVEL PROFILE HOLDER
    unit=$nix_ops_activation_unit
    directory=$nix_ops_activations-$1
    action=$2 new=$3 profile=$4 holder=$5
    [ "$(id -u)" = 0 ] || refuse root "it needs root: set become"
    [ -d /run/systemd/system ] || refuse systemd "systemd does not run here"
    [ -e "$new/nixos-version" ] || refuse toplevel "$new is not a NixOS system in this machine's store"
    [ -x "$new/bin/switch-to-configuration" ] || refuse switch "$new has no switch-to-configuration"

    umask 077
    # Before anything that could reboot the machine. Without an id, it counts as another machine afterwards.
    make_identity || :
    if ! mkdir "$directory" || ! cat >"$directory/job" ||
        ! echo "$unit" >"$directory/unit" || ! echo "$action $new" >"$directory/what" ||
        ! standing "$profile" >"$directory/before" || ! touch "$directory/log" || ! reserve "$directory"; then
        rm -rf -- "$directory"
        refuse room "$directory could not be written"
    fi

    tries=30
    until said=$(start_unit "$directory" "nix.ops $action of $new by $holder"); do
        other=$(at_work)
        if [ -n "$other" ]; then
            rm -rf -- "$directory"
            # Follow the same activation to its end: the run that started it may be gone.
            if [ "$(cat "$other/what")" = "$action $new" ]; then
                cat "$other/before"
                echo "joined $other"
                return 0
            fi
            refuse_busy
        fi
        tries=$((tries - 1))
        # systemd removes the unit of an activation that has just ended.
        if [ "$tries" = 0 ]; then
            rm -rf -- "$directory"
            # The files of the other activation may have been removed.
            ! is_activating || refuse_busy
            refuse start "$said"
        fi
        sleep 0.1
    done
    cat "$directory/before"
    echo "started $directory"
    # Keep the last ten minutes: a run that lost its connection may still ask for its result.
    find "${nix_ops_activations%/*}" -maxdepth 1 -type d -name "${nix_ops_activations##*/}-*" ! -path "$directory" -mmin +10 \
        -exec rm -rf -- {} +
}
