# shellcheck shell=sh disable=SC2154
# The job that activates a toplevel, as the machine runs it by itself.
# sh job DIRECTORY         activates.
# sh job DIRECTORY guard   is run after that, however it ended, and ends in order what was killed.
# The action switch is done as test, acknowledgement, profile, boot: a machine that breaks half way still boots
# what it ran before, and one that can't be reached any more goes back to it.
# The files of the directory: plan (the settings, job_NAME), variables (the user's), ways_in (what let somebody in
# before), log, step (where it is), code (the exit code of the switch), reached (someone got in, and checks the health),
# decision (what became of that), reboot (someone is there to see it), rolled_back, journal, rc (the exit code, written
# last; - where it was killed).

# The user's variables are read below: the names of these are none that he would choose.
job_directory=$1 job_mode=${2-}
job_root=/nix/var/nix/gcroots/nix-ops/before
job_guard=nix-ops-boot-guard.service
cd / || exit 1
umask 022
# shellcheck source=/dev/null
. "$job_directory/variables"
# shellcheck source=/dev/null
. "$job_directory/plan"

# How it ended, or - as long as it has not. A full disk keeps no activation from ending.
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
            printf '%s %s\n' "$unit" "$line"
        done
    done
}

# Everything but the last word.
settle() { # EXIT-CODE
    [ "$job_action" = dry-activate ] || remember "$1" || :
    rm -f "$job_root"
    [ "$1" = 0 ] || [ -f "$job_directory/journal" ] || journals >"$job_directory/journal"
}

# An exit code of 0 keeps the unit from being marked as failed; the true one is in the file.
finish() { # EXIT-CODE
    settle "$1"
    case $1 in 0 | 4) ;; *) rm -f "$job_trial" ;; esac
    echo "$1" >"$job_directory/rc.new"
    mv "$job_directory/rc.new" "$job_directory/rc"
    exit 0
}

at() { # STEP
    echo "$1" >"$job_directory/step"
}

step() { # NAME COMMAND...
    at "$1"
    shift
    "$@" || end_of_step $?
}

# Where the new system does not run, the profile is put back as well: it names nothing that neither runs nor boots.
end_of_step() { # EXIT-CODE
    if [ -n "$job_old_generation" ] && [ "$(readlink -f /run/current-system)" != "$job_new" ] &&
        [ -e "$job_unfinished" ]; then
        old=$(readlink -f "$job_profile-$job_old_generation-link")
        if nix-env --profile "$job_profile" --switch-generation "$job_old_generation" &&
            "$old/bin/switch-to-configuration" boot; then
            rm -f "$job_unfinished"
        fi
    fi
    finish "$1"
}

# A machine that goes down in between, or whose boot loader fails, is not taken for done.
profile_and_boot() {
    step profile mkdir -p "${job_profile%/*}"
    step profile mkdir -p -m 0700 "${job_unfinished%/*}"
    if needs_reboot; then step profile write_trial; else rm -f "$job_trial"; fi
    step profile touch "$job_unfinished"
    step profile set_profile
    step boot "$job_new/bin/switch-to-configuration" boot
    step boot rm -f "$job_unfinished"
}

set_profile() {
    if [ -n "$job_generation" ] && [ "$(readlink -f "$job_profile-$job_generation-link")" = "$job_new" ]; then
        nix-env --profile "$job_profile" --switch-generation "$job_generation"
    else
        nix-env --profile "$job_profile" --set "$job_new"
    fi
}

# The clock is that of the kernel, which nobody sets.
uptime_in_seconds() {
    read -r seconds _ </proc/uptime
    echo "${seconds%.*}"
}

# Whoever makes the link decides, once (symlink(2)): the controller that got in again, or the machine that has
# waited long enough. Where the controller got in and checks the machine's health, it has the time for that.
await_decision() {
    at acknowledge
    echo "waiting to be reached over a new connection..." >&2
    end=$(($(uptime_in_seconds) + job_seconds)) checks=
    until [ -L "$job_directory/decision" ]; do
        if [ -z "$checks" ] && [ -e "$job_directory/reached" ]; then
            at check
            checks=yes end=$(($(uptime_in_seconds) + job_check_seconds + job_seconds))
        fi
        [ "$(uptime_in_seconds)" -lt "$end" ] || ln -s undo "$job_directory/decision" 2>/dev/null || :
        sleep 0.1
    done
    readlink "$job_directory/decision"
}

# A switch that hangs is ended: nobody could be locked out for longer than by one that hangs.
switch() { # TOPLEVEL
    timeout --kill-after=30 "$job_switch_seconds" "$1/bin/switch-to-configuration" test
}

runs() { # TOPLEVEL
    [ "$(readlink -f /run/current-system)" = "$1" ]
}

# The units that let somebody in, a line each.
ways_in() {
    systemctl list-units --plain --no-legend --state=active 'ssh.s*' 'sshd.s*' 'sshd-unix*' | cut -d ' ' -f 1
}

# What is still queued may stop what has just been started; a job that takes long is not waited for.
await_jobs() {
    tries=100
    while [ "$tries" -gt 0 ] && [ -n "$(systemctl list-jobs --no-legend)" ]; do
        tries=$((tries - 1))
        sleep 0.1
    done
}

is_back() {
    runs "$job_old" || return 1
    await_jobs
    [ "$(systemctl is-system-running)" != maintenance ] && ! ways_in | grep -vqxFf - "$job_directory/ways_in"
}

# Puts back what ran before. Where the ordinary way is of no use, since a target has stopped D-Bus and sshd, the old
# system is activated by itself and systemd brought back to its default; where that is of no use, by a reboot, which
# starts the old system.
roll_back() { # EXIT-CODE
    # It refused to begin, or could not be run.
    case $1 in 1 | 100 | 126 | 127) ! is_back || finish "$1" ;; esac
    [ "$1" = 0 ] || journals >"$job_directory/journal"
    at rollback
    echo "going back to $job_old"
    switch "$job_old" || :
    if ! is_back; then
        "$job_old/activate" || :
        systemctl daemon-reload || :
        systemctl reset-failed || :
        systemctl default || :
        switch "$job_old" || :
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

# switch-to-configuration refused before it touched anything, since only a reboot can start this system: its init is
# another, or what inhibits a switch has changed.
only_boots() {
    [ "$job_reboot" != never ] && [ "$job_action" = switch ] && ! runs "$job_new" || return 1
    case $job_code in
        100) ;;
        1) ! cmp -s /run/current-system/switch-inhibitors "$job_new/switch-inhibitors" ;;
        *) false ;;
    esac
}

needs_reboot() {
    case $job_reboot in
        never) return 1 ;;
        always) return 0 ;;
    esac
    runs "$job_new" || return 0
    for part in kernel initrd kernel-modules systemd; do
        [ "$(readlink -f "/run/booted-system/$part")" = "$(readlink -f "$job_new/$part")" ] || return 0
    done
    return 1
}

# The generation of what was booted, the newest where there are several.
booted_generation() { # TOPLEVEL
    newest=-
    for link in "$job_profile"-*-link; do
        number=${link#"$job_profile"-}
        number=${number%-link}
        if [ "$(readlink -f "$link")" = "$1" ] && { [ "$newest" = - ] || [ "$number" -gt "$newest" ]; }; then
            newest=$number
        fi
    done
    echo "$newest"
}

# Has the new system, where it was never booted, boot what is booted now unless someone gets in: its boot guard reads
# this. It is there before the boot entry is, so that no power cut comes too early.
write_trial() {
    booted=$(readlink -f /run/booted-system)
    [ "$booted" != "$job_new" ] || return 0
    # Where the user has it masked, it is none.
    if [ ! -f "$job_new/etc/systemd/system/$job_guard" ] || [ ! -x "$booted/bin/switch-to-configuration" ]; then
        echo "warning: $job_new has no boot guard: it does not boot back by itself where nobody can reach it"
        return 0
    fi
    (
        umask 077
        echo "$job_new $booted $(booted_generation "$booted") $job_reboot_seconds $job_profile" >"$job_trial.new"
    ) && sync "$job_trial.new" && mv "$job_trial.new" "$job_trial"
}

# Someone has to be there to see it: a machine is not rebooted after its controller has gone.
reboot_if_seen() {
    settle "$job_code"
    at reboot
    end=$(($(uptime_in_seconds) + job_seconds))
    until [ -e "$job_directory/reboot" ]; do
        if [ "$(uptime_in_seconds)" -ge "$end" ]; then
            rm -f "$job_trial"
            echo "nobody is there to see a reboot: the machine is not rebooted"
            finish "$job_code"
        fi
        sleep 0.1
    done
    systemctl reboot || {
        rm -f "$job_trial"
        finish 1
    }
    exit 0
}

activate_and_await() {
    at activate
    job_code=0
    switch "$job_new" || job_code=$?
    if only_boots; then
        echo "only a reboot can start this system: it is booted instead"
        job_code=0
        echo 0 >"$job_directory/code"
        return
    fi
    echo "$job_code" >"$job_directory/code"
    case $job_rollback-$job_code-$job_failed_units in
        never-0-* | never-4-fail | never-4-warn) return ;;
        never-*) finish "$job_code" ;;
        *-0-* | *-4-fail | *-4-warn) ;;
        *) roll_back "$job_code" ;;
    esac
    [ "$(await_decision)" = keep ] || roll_back "$job_code"
}

make_bootable() {
    [ "$job_action" = test ] || profile_and_boot
    [ "$job_action" = test ] || ! needs_reboot || reboot_if_seen
    # The exit code is that of the switch.
    [ "$job_code" = 0 ] || at activate
    finish "$job_code"
}

# What was killed: before anybody has got in, the machine goes back; afterwards it is brought to its end.
end_in_order() {
    [ ! -e "$job_directory/rc" ] || exit 0
    job_step=$(cat "$job_directory/step" 2>/dev/null)
    [ "$job_action" = boot ] || job_code=$(cat "$job_directory/code" 2>/dev/null || echo -)
    case $job_action-$job_step in
        dry-activate-*) finish - ;;
        *-reboot)
            # The machine goes down.
            [ ! -e "$job_directory/reboot" ] || exit 0
            rm -f "$job_trial"
            finish "$job_code"
            ;;
        boot-* | *-profile | *-boot) make_bootable ;;
    esac
    if [ "$job_rollback" = never ] || [ -z "$job_step" ]; then finish -; fi
    ln -s undo "$job_directory/decision" 2>/dev/null || :
    [ "$(readlink "$job_directory/decision")" != keep ] || make_bootable
    echo "the activation was killed"
    # What it had begun is undone even where it runs not yet.
    roll_back -
}

# A system that is none, as while one is installed, is no place to go back to.
[ -n "$job_old" ] || job_rollback=never
job_code=0
[ "$job_mode" != guard ] || end_in_order
[ "$job_action" = dry-activate ] || remember - || :
ways_in >"$job_directory/ways_in"
case $job_action in
    switch | test)
        # What runs now may be no generation.
        [ -z "$job_old" ] || { mkdir -p "${job_root%/*}" && ln -sfn "$job_old" "$job_root"; } || :
        activate_and_await
        make_bootable
        ;;
    boot)
        make_bootable
        ;;
    dry-activate)
        step activate "$job_new/bin/switch-to-configuration" dry-activate
        finish 0
        ;;
esac
