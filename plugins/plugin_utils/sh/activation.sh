# shellcheck shell=sh
# Begins an activation on a NixOS machine, detached from the connection that asks for it.
# The name of the unit it runs in is the lock: systemd starts no second one, and it is gone
# with the activation.
# Standard input of main: the job that the unit runs.

refuse() { # REASON TEXT
    echo "refused $1"
    echo "$2" >&2
    exit 0
}

# The dot keeps trailing newlines, which $( ) drops.
quoted() {
    text=$(printf '%s.' "$1" | sed "s/'/'\\\\''/g")
    printf "'%s'" "${text%.}"
}

# Variables go to the job by a file of its own: a unit's environment can be read by every user.
variables() { # NAMES
    for nix_ops_name in $1; do
        eval "nix_ops_value=\$$nix_ops_name"
        printf 'export %s=%s\n' "$nix_ops_name" "$(quoted "${nix_ops_value?}")"
    done
}

# The activation that is at work, where it is the same as what is asked for: whoever began it may be gone.
join() { # ACTION TOPLEVEL
    command=$(systemctl show --property=ExecStart --value "$unit")
    for attempt in "$attempts"-*; do
        case $command in *" $attempt/job "*) ;; *) continue ;; esac
        [ "$(cat "$attempt/what")" = "$1 $2" ] || return 1
        cat "$attempt/before"
        echo "joined $attempt"
        return 0
    done
    return 1
}

main() { # ID ACTION TOPLEVEL PROFILE HOLDER DEPLOYMENT ROLLBACK FAILED-UNITS SECONDS NAMES
    # Before any other variable is set: one of the user's may have its name.
    given=$(shift 9 && variables "$1")
    unit=nix-ops-activation.service attempts=/run/nix-ops
    id=$1 action=$2 new=$3 profile=$4 holder=$5 deployment=$6
    rollback=$7 failed_units=$8 seconds=$9
    [ "$(id -u)" = 0 ] || refuse root "it needs root: set become"
    [ -d /run/systemd/system ] || refuse systemd "systemd does not run here"
    if [ ! -e "$new/nixos-version" ] || [ ! -x "$new/bin/switch-to-configuration" ]; then
        refuse toplevel "$new is no NixOS system in this machine's store"
    fi

    umask 077
    directory=$attempts-$id
    if ! mkdir "$directory" || ! cat >"$directory/job" || ! printf '%s\n' "$given" >"$directory/variables" ||
        ! : >"$directory/log" || ! echo "$unit" >"$directory/unit" || ! echo "$action $new" >"$directory/what" ||
        ! standing "$profile" >"$directory/before"; then
        rm -rf -- "$directory"
        refuse room "$directory could not be written"
    fi

    old=$(toplevel /run/current-system)
    # A system that is none, as while one is installed, is no place to go back to.
    [ -x "$old/bin/switch-to-configuration" ] || old='' rollback=never
    if said=$(systemd-run --quiet --unit="$unit" --collect --service-type=exec \
        --description="nix.ops $action of $new by $holder" \
        --property=DefaultDependencies=no --property=IgnoreOnIsolate=yes \
        --property=KillMode=mixed \
        --property=StandardOutput="append:$directory/log" --property=StandardError="append:$directory/log" \
        --setenv=PATH="$PATH" ${NIX_REMOTE:+"--setenv=NIX_REMOTE=$NIX_REMOTE"} \
        ${LOCALE_ARCHIVE:+"--setenv=LOCALE_ARCHIVE=$LOCALE_ARCHIVE"} \
        /bin/sh "$directory/job" "$directory" "$action" "$new" "$profile" "$(boot_unfinished)" \
        "$(last_activation)" "$deployment" "$old" "$rollback" "$failed_units" "$seconds" 2>&1); then
        cat "$directory/before"
        echo "started $directory"
        # Who lost the connection may still come back for what happened, so the last minutes are kept.
        find "${attempts%/*}" -maxdepth 1 -name "${attempts##*/}-*" -mmin +10 -exec rm -rf -- {} +
        return 0
    fi
    rm -rf -- "$directory"
    ! join "$action" "$new" || return 0
    case $(systemctl show --property=ActiveState --value "$unit") in
        active | activating | deactivating)
            refuse busy "$(systemctl show --property=Description --value "$unit"), since $(systemctl show --property=ActiveEnterTimestamp --value "$unit")"
            ;;
        *) refuse start "$said" ;;
    esac
}
