# shellcheck shell=sh
# The job that activates a toplevel, as the machine runs it by itself.
# sh job DIRECTORY ACTION TOPLEVEL PROFILE UNFINISHED LAST DEPLOYMENT OLD ROLLBACK FAILED-UNITS SECONDS
# The action switch is done as test, acknowledgement, profile, boot: a machine that breaks half way still boots
# what it ran before, and one that can't be reached any more goes back to it.

# The user's variables are read below: the names of these are none that he would choose.
job_directory=$1 job_action=$2 job_new=$3 job_profile=$4 boot_unfinished=$5 job_last=$6 job_deployment=$7
shift 7
job_old=$1 job_rollback=$2 job_failed_units=$3 job_seconds=$4
job_root=/nix/var/nix/gcroots/nix-ops/before
cd / || exit 1
umask 022
# shellcheck source=/dev/null
. "$job_directory/variables"

# A full disk keeps no activation from ending.
remember() { # EXIT-CODE
    (umask 077 && mkdir -p "${job_last%/*}") &&
        back=$(cat "$job_directory/rolled_back" 2>/dev/null || echo no) &&
        echo "$job_deployment $job_new $job_action $1 $(date +%s) $back" >"$job_last.new" &&
        mv "$job_last.new" "$job_last"
}

# The ends of the journals of the units that failed in this activation.
journals() {
    systemctl list-units --failed --plain --no-legend --full 2>/dev/null | while read -r unit _; do
        if grep -qxF "failed $unit" "$job_directory/before" && ! grep -qF "$unit" "$job_directory/log"; then
            continue
        fi
        journalctl --unit="$unit" --lines=10 --no-pager --output=cat 2>/dev/null | while IFS= read -r line; do
            printf 'journal %s %s\n' "$unit" "$line"
        done
    done
}

# An exit code of 0 keeps the unit from being marked as failed; the true one is in the file.
finish() { # EXIT-CODE
    [ "$job_action" = dry-activate ] || remember "$1" || :
    rm -f "$job_root"
    [ "$1" = 0 ] || [ -f "$job_directory/journal" ] || journals >"$job_directory/journal"
    echo "$1" >"$job_directory/rc.new"
    mv "$job_directory/rc.new" "$job_directory/rc"
    exit 0
}

step() { # NAME COMMAND...
    echo "$1" >"$job_directory/step"
    shift
    "$@" || finish $?
}

# A machine that goes down in between, or whose boot loader fails, is not taken for done.
profile_and_boot() {
    step profile mkdir -p "${job_profile%/*}"
    step profile mkdir -p -m 0700 "${boot_unfinished%/*}"
    step profile touch "$boot_unfinished"
    step profile nix-env --profile "$job_profile" --set "$job_new"
    step boot "$job_new/bin/switch-to-configuration" boot
    step boot rm -f "$boot_unfinished"
}

uptime_in_seconds() {
    read -r seconds _ </proc/uptime
    echo "${seconds%.*}"
}

# Whoever makes the link decides, once (symlink(2)): the controller that got in again, or the machine that has
# waited long enough. The clock is that of the kernel, which nobody sets.
await_decision() {
    echo acknowledge >"$job_directory/step"
    echo "waiting to be reached over a new connection..." >&2
    end=$(($(uptime_in_seconds) + job_seconds))
    until [ -L "$job_directory/decision" ]; do
        [ "$(uptime_in_seconds)" -lt "$end" ] || ln -s undo "$job_directory/decision" 2>/dev/null || :
        sleep 0.1
    done
    readlink "$job_directory/decision"
}

is_back() {
    [ "$(readlink -f /run/current-system)" = "$job_old" ] && [ "$(systemctl is-system-running)" != maintenance ]
}

# Puts back what ran before. Where the ordinary way is of no use, since a target has stopped D-Bus and sshd, the old
# system is activated by itself and systemd brought back to its default; where that is of no use, by a reboot, which
# starts the old system.
roll_back() { # EXIT-CODE
    # It refused to begin, or could not be run.
    case $1 in 1 | 100 | 126 | 127) ! is_back || finish "$1" ;; esac
    [ "$1" = 0 ] || journals >"$job_directory/journal"
    echo rollback >"$job_directory/step"
    echo "going back to $job_old"
    "$job_old/bin/switch-to-configuration" test || :
    if ! is_back; then
        "$job_old/activate" || :
        systemctl daemon-reload || :
        systemctl reset-failed || :
        systemctl default || :
        sleep 1
        "$job_old/bin/switch-to-configuration" test || :
    fi
    if is_back; then
        echo yes >"$job_directory/rolled_back"
        finish "$1"
    fi
    echo "the old system could not be activated; the machine is rebooted, and boots it"
    echo reboot >"$job_directory/rolled_back"
    systemctl reboot || :
    finish "$1"
}

activate_and_await() {
    echo activate >"$job_directory/step"
    code=0
    "$job_new/bin/switch-to-configuration" test || code=$?
    if [ "$job_rollback" = never ]; then
        [ "$code" = 0 ] || finish "$code"
        return
    fi
    case $code-$job_failed_units in
        0-* | 4-fail | 4-warn) ;;
        *) roll_back "$code" ;;
    esac
    [ "$(await_decision)" = keep ] || roll_back "$code"
}

case $job_action in
    switch | test)
        # What runs now may be no generation.
        [ -z "$job_old" ] || { mkdir -p "${job_root%/*}" && ln -sfn "$job_old" "$job_root"; } || :
        activate_and_await
        [ "$job_action" = test ] || profile_and_boot
        finish "$code"
        ;;
    boot)
        profile_and_boot
        ;;
    dry-activate)
        step activate "$job_new/bin/switch-to-configuration" dry-activate
        ;;
esac
finish 0
