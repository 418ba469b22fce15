# shellcheck shell=sh disable=SC2154
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

# The settings of the job, as assignments that it reads.
plan() { # NAME=VALUE...
    for setting; do
        printf '%s=%s\n' "job_${setting%%=*}" "$(quoted "${setting#*=}")"
    done
}

# The directory of the activation that is at work; nothing where the unit's has just ended.
at_work() {
    command=$(systemctl show --property=ExecStart --value "$unit")
    for attempt in "$attempts"-*; do
        case $command in *" $attempt/job "*) ;; *) continue ;; esac
        [ -e "$attempt/rc" ] || echo "$attempt"
    done
}

# What is killed is ended in order by the guard, which systemd runs after the job however that ended.
start_unit() {
    systemd-run --quiet --unit="$unit" --collect --service-type=exec \
        --description="nix.ops $job_action of $job_new by $job_holder" \
        --property=DefaultDependencies=no --property=IgnoreOnIsolate=yes \
        --property=KillMode=mixed --property=TimeoutStopSec=infinity --property=OOMScoreAdjust=-900 \
        --property=ExecStopPost="/bin/sh $directory/job $directory guard" \
        --property=StandardOutput="append:$directory/log" --property=StandardError="append:$directory/log" \
        --setenv=PATH="$PATH" ${NIX_REMOTE:+"--setenv=NIX_REMOTE=$NIX_REMOTE"} \
        ${LOCALE_ARCHIVE:+"--setenv=LOCALE_ARCHIVE=$LOCALE_ARCHIVE"} \
        /bin/sh "$directory/job" "$directory" 2>&1
}

main() { # ID NAMES NAME=VALUE...
    # Before any other variable is set: one of the user's may have its name.
    given=$(variables "$2")
    unit=nix-ops-activation.service attempts=/run/nix-ops
    directory=$attempts-$1
    shift 2
    plan=$(plan "$@")
    eval "$plan"
    [ "$(id -u)" = 0 ] || refuse root "it needs root: set become"
    [ -d /run/systemd/system ] || refuse systemd "systemd does not run here"
    if [ ! -e "$job_new/nixos-version" ] || [ ! -x "$job_new/bin/switch-to-configuration" ]; then
        refuse toplevel "$job_new is no NixOS system in this machine's store"
    fi

    old=$(toplevel /run/current-system)
    # A system that is none, as while one is installed, is no place to go back to.
    [ -x "$old/bin/switch-to-configuration" ] || old=
    umask 077
    if ! mkdir "$directory" || ! cat >"$directory/job" || ! printf '%s\n' "$given" >"$directory/variables" ||
        ! : >"$directory/log" || ! echo "$unit" >"$directory/unit" || ! echo "$job_action $job_new" >"$directory/what" ||
        ! standing "$job_profile" >"$directory/before" ||
        ! { echo "$plan" && plan "old=$old" "unfinished=$(boot_unfinished)" "last=$(last_activation)" "trial=$(trial)" \
            "old_generation=$(generation "$job_profile")"; } >"$directory/plan"; then
        rm -rf -- "$directory"
        refuse room "$directory could not be written"
    fi

    tries=30
    until said=$(start_unit); do
        other=$(at_work)
        if [ -n "$other" ]; then
            rm -rf -- "$directory"
            # Whoever began it may be gone: the same is joined.
            if [ "$(cat "$other/what")" = "$job_action $job_new" ]; then
                cat "$other/before"
                echo "joined $other"
                return 0
            fi
            refuse busy "$(systemctl show --property=Description --value "$unit"), since $(systemctl show --property=ActiveEnterTimestamp --value "$unit")"
        fi
        tries=$((tries - 1))
        # The unit of one that has just ended goes away by itself.
        if [ "$tries" = 0 ]; then
            rm -rf -- "$directory"
            refuse start "$said"
        fi
        sleep 0.1
    done
    cat "$directory/before"
    echo "started $directory"
    # Who lost the connection may still come back for what happened, so the last minutes are kept.
    find "${attempts%/*}" -maxdepth 1 -name "${attempts##*/}-*" ! -path "$directory" -mmin +10 -exec rm -rf -- {} +
}
