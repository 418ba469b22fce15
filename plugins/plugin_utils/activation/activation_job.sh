# shellcheck shell=sh disable=SC2154
# The job that activates a toplevel. It runs on the machine by itself and needs no controller.
# sh job DIRECTORY         activates.
# sh job DIRECTORY guard   systemd runs this after the job. It cleans up if the job was killed.
# The action switch is done in four steps: test, acknowledgement, profile, boot. A machine that breaks in between still
# boots what it ran before, and a machine that can't be reached any more goes back to it.
# Before this text stand the user's variables, places.sh, kept.sh, system.sh, lock.sh, lines.sh, old_keys.sh, shared.sh,
# failed_units.sh and the settings (job_NAME).
# Files of the directory:
#   journal_end where the journal ended when the switch began
#   before      what ran and booted before the activation
#   ways_in     the units that let somebody in before
#   log         the output
#   step        the current step
#   code        the exit code of the switch; 0 if only units failed that do not count
#   failed      the units that failed, one a line: "own UNIT", or "foreign UNIT" if it does not count
#   reached     made by the controller: it got in again and checks the machine's health
#   decision    keep or undo; made by the controller, or by the machine after its wait
#   reboot      made by the controller: it is there to follow a reboot
#   rolled_back yes, or reboot if it took one
#   journal     the ends of the journals of failed units
#   rc          the exit code, written last; - if the job was killed

job_directory=$1 job_mode=${2-}
cd / || exit 1
umask 022
job_old=$(sed -n 's/^running //p' "$job_directory/before")
job_old_generation=$(sed -n 's/^generation //p' "$job_directory/before")
# Going back does not depend on the directory: it may be removed meanwhile, and /run may be full.
job_ways_in=$(cat "$job_directory/ways_in" 2>/dev/null)
job_back=$(cat "$job_directory/rolled_back" 2>/dev/null || echo no)
# Without switch-to-configuration, as during an installation, there is nothing to roll back to.
[ -x "$job_old/bin/switch-to-configuration" ] || job_old='' job_rollback=never

# Note the result, or - until there is one. The controller reads it even if it was not there at the end.
# Callers ignore a failure: a full disk must not keep an activation from ending.
remember() { # EXIT-CODE
    (umask 077 && mkdir -p "$nix_ops_kept") || return
    last="$job_deployment $job_new $job_action $1 $(date +%s) $job_back"
    write_line "$last" "$nix_ops_last_activation" || return
    if [ -e "$nix_ops_old_trial" ]; then
        # The boot guard of version 0.1.0 notes there that the machine has booted back.
        write_line "$last" "$nix_ops_old_last_activation"
    else
        rm -f "$nix_ops_old_last_activation"
    fi
}

write_line() { # LINE FILE
    echo "$1" >"$2.new" && mv "$2.new" "$2"
}

# Print the ends of the journals of the units that failed in this activation.
print_journals() {
    since=$(cat "$job_directory/journal_end" 2>/dev/null)
    await_journal
    {
        systemctl list-units --failed --plain --no-legend --full 2>/dev/null
        sed -n 's/^own //p' "$job_directory/failed" 2>/dev/null
    } | cut -d ' ' -f 1 | sort -u | while read -r unit; do
        if grep -qxF "failed $unit" "$job_directory/before" && ! grep -qF "$unit" "$job_directory/log"; then
            continue
        fi
        # With --cursor, --lines would print the first ones.
        timeout 30 journalctl --unit="$unit" ${since:+"--cursor=$since"} --no-pager --output=cat 2>/dev/null |
            tail -n 10 | while IFS= read -r line; do printf '%s %s\n' "$unit" "$line"; done
    done
}

# Record the result; the exit code is written later.
settle() { # EXIT-CODE
    [ "$job_action" = dry-activate ] || remember "$1" || :
    rm -f "$nix_ops_root_before"
    [ "$1" = 0 ] || [ -f "$job_directory/journal" ] || print_journals >"$job_directory/journal"
}

settle_old_keys() { # EXIT-CODE
    case $job_keep_keys-$1 in yes-0 | yes-4) keep_on ;; *) forget_old_keys ;; esac
}

# The job exits with 0, or systemd would mark the unit as failed. The real exit code is in the file.
finish() { # EXIT-CODE
    settle "$1"
    case $1 in 0 | 4) ;; *) forget_trial ;; esac
    [ "$job_action" = dry-activate ] || undisturbed settle_old_keys "$1" || :
    write_line "$1" "$job_directory/rc"
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

# If the new system does not run, set the profile back too. It would name a system that neither runs nor boots.
end_of_step() { # EXIT-CODE
    if ! runs "$job_new"; then
        undisturbed take_keys_back || :
        restart_taken_back
    fi
    if [ -n "$job_old_generation" ] && ! runs "$job_new" && is_boot_unfinished; then
        old=$(readlink -f "$job_profile-$job_old_generation-link")
        if set_generation "$job_profile" "$job_old_generation" "$old" "$job_boot_seconds" && install_boot "$old"; then
            finish_boot
        fi
    fi
    finish "$1"
}

# boot-unfinished tells the next run if the machine goes down in between or the boot loader fails.
profile_and_boot() {
    step profile mkdir -p "${job_profile%/*}"
    step profile mkdir -p -m 0700 "$nix_ops_kept"
    if needs_reboot; then step profile write_trial; else forget_trial; fi
    step profile touch "$nix_ops_boot_unfinished"
    step profile set_profile
    step boot install_boot "$job_new"
    step boot finish_boot
}

set_profile() {
    set_generation "$job_profile" "$job_generation" "$job_new" "$job_boot_seconds"
}

# A boot loader that hangs is ended, or the machine could not be deployed again.
install_boot() { # TOPLEVEL
    within "$job_boot_seconds" "$1/bin/switch-to-configuration" boot
}

# Wait for the decision and print it. If the controller got in and checks the machine's health, wait for that as well.
await_decision() {
    at acknowledge
    echo "waiting to be reached over a new connection..." >&2
    end=$(($(uptime_in_seconds) + job_seconds)) checks=
    until [ -L "$job_directory/decision" ]; do
        if [ -z "$checks" ] && [ -e "$job_directory/reached" ]; then
            at check
            checks=yes end=$(($(uptime_in_seconds) + job_check_seconds + job_seconds))
        fi
        if [ "$(uptime_in_seconds)" -ge "$end" ]; then
            decide "$job_directory/decision" undo
            break
        fi
        sleep 0.1
    done
    # If the decision can't be written, the machine goes back.
    readlink "$job_directory/decision" || echo undo
}

# A switch that hangs is ended, or it would lock everybody out for good.
switch() { # TOPLEVEL
    within "$job_switch_seconds" "$1/bin/switch-to-configuration" test
}

# Print the units that let somebody in, one a line. Instances of templates are single connections, which users end.
list_ways_in() {
    systemctl list-units --plain --no-legend --state=active 'ssh.s*' 'sshd.s*' 'sshd-unix*' | cut -d ' ' -f 1 | grep -v @
}

# Wait up to ten seconds for queued jobs of systemd. One of them may stop what has just been started.
await_jobs() {
    until_uptime=$(($(uptime_in_seconds) + 10))
    while [ "$(uptime_in_seconds)" -lt "$until_uptime" ] && [ -n "$(timeout 10 systemctl list-jobs --no-legend)" ]; do
        sleep 0.1
    done
}

is_back() {
    runs "$job_old" || return 1
    await_jobs
    [ "$(systemctl is-system-running)" != maintenance ] &&
        { [ -z "$job_ways_in" ] || ! echo "$job_ways_in" | grep -vqxF -e "$(list_ways_in)"; }
}

note_return() { # yes|reboot
    job_back=$1
    write_line "$1" "$job_directory/rolled_back"
}

# Run a part of going back. All parts together may take as long as a switch.
in_time() { # COMMAND...
    left=$((job_back_by - $(uptime_in_seconds)))
    [ "$left" -gt 0 ] || return 124
    within "$left" "$@"
}

# Put back what ran before. If a target has stopped D-Bus and sshd, switch-to-configuration fails: then activate the old
# system directly and start systemd's default target. If that fails too, reboot into the old system.
roll_back() { # EXIT-CODE
    undisturbed take_keys_back || :
    # The switch refused to start, or could not be run.
    case $1 in
        1 | 11 | 100 | 126 | 127)
            if is_back; then
                restart_taken_back
                finish "$1"
            fi
            ;;
    esac
    [ "$1" = 0 ] || print_journals >"$job_directory/journal"
    at rollback
    echo "going back to $job_old"
    job_back_by=$(($(uptime_in_seconds) + job_switch_seconds))
    in_time "$job_old/bin/switch-to-configuration" test || echo "warning: going back ended with exit code $?"
    if ! is_back; then
        in_time "$job_old/activate" || :
        in_time systemctl daemon-reload || :
        in_time systemctl reset-failed || :
        in_time systemctl default || :
        in_time "$job_old/bin/switch-to-configuration" test || :
    fi
    if is_back; then
        restart_taken_back
        note_return yes
        finish "$1"
    fi
    echo "the old system could not be activated; rebooting the machine into it"
    note_return reboot
    # Users of the machine may inhibit a reboot.
    systemctl reboot -i || systemctl reboot --force || :
    finish "$1"
}

# Return whether switch-to-configuration refused before it touched anything because only a reboot can start this system:
# it has another init, or an inhibitor of switches has changed.
only_boots() {
    [ "$job_reboot" != never ] && [ "$job_action" = switch ] && ! runs "$job_new" || return 1
    case $job_code in
        100) ;;
        1) ! cmp -s /run/current-system/switch-inhibitors "$job_new/switch-inhibitors" ;;
        *) false ;;
    esac
}

# If the only units that failed are not the system's own, the switch counts as good.
judge_failed_units() { # END-OF-JOURNAL
    [ "$job_code" = 4 ] || return 0
    await_journal
    failed=$(print_failed_units "$job_directory/log" "$1" "${job_old:-$job_new}" "$job_new")
    echo "$failed" >"$job_directory/failed"
    foreign=$(echo "$failed" | sed -n 's/^foreign //p' | paste -s -d , | sed 's/,/, /g')
    [ -z "$foreign" ] || echo "warning: not units of this system, so their failure does not count: $foreign"
    if echo "$failed" | grep -q '^own '; then return 0; fi
    # switch-to-configuration-ng also ends with 4 if units of a user's own service manager fail.
    if [ -n "$foreign" ] || grep -q '^warning: user activation for .* failed$' "$job_directory/log"; then job_code=0; fi
}

needs_reboot() {
    case $job_reboot in
        never) return 1 ;;
        always) return 0 ;;
    esac
    ! runs "$job_new" || has_other_parts "$job_new"
}

# Print the newest generation of the system that was booted; - if it has none.
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

# Print where the new system's boot guard looks for a trial; nothing if the system has no boot guard.
trial_of_new() {
    guard=$job_new/etc/systemd/system/$nix_ops_guard_unit
    # A masked unit is not a file and counts as missing.
    [ -f "$guard" ] || return 0
    for place in "$nix_ops_trial" "$nix_ops_old_trial"; do
        if grep -qxF "ConditionPathExists=$place" "$guard"; then
            echo "$place"
            return
        fi
    done
}

warn_of_no_way_back() { # REASON
    echo "warning: $1: it does not boot back by itself if nobody can reach it"
}

# Have the new system boot back to what is booted now, unless somebody gets in. This is for a system that was never
# booted. The trial has to be there before the boot entry: the power may fail in between.
write_trial() {
    booted=$(readlink -f /run/booted-system)
    [ "$booted" != "$job_new" ] || return 0
    trial=$(trial_of_new)
    if [ -z "$trial" ] || [ ! -x "$booted/bin/switch-to-configuration" ]; then
        warn_of_no_way_back "$job_new has no boot guard"
        return 0
    fi
    (umask 077 && mkdir -p "${trial%/*}") || return
    if ! outlives_reboot "${trial%/*}" "$job_new"; then
        warn_of_no_way_back "the next boot may not mount what ${trial%/*} is on"
        return 0
    fi
    (
        umask 077
        echo "$job_new $booted $(booted_generation "$booted") $job_reboot_seconds $job_profile" >"$trial.new"
    ) && sync "$trial.new" && mv "$trial.new" "$trial" || return
    for place in "$nix_ops_trial" "$nix_ops_old_trial"; do
        [ "$place" = "$trial" ] || rm -f "$place"
    done
    # From now on a boot guard of version 0.1.0 may add to its copy.
    [ "$trial" = "$nix_ops_trial" ] || remember - || :
}

# Reboot only if the controller is there to follow it.
reboot_if_seen() {
    settle "$job_code"
    at reboot
    end=$(($(uptime_in_seconds) + job_seconds))
    until [ -e "$job_directory/reboot" ]; do
        if [ "$(uptime_in_seconds)" -ge "$end" ]; then
            forget_trial
            echo "nobody is there to see a reboot: the machine is not rebooted"
            finish "$job_code"
        fi
        sleep 0.1
    done
    systemctl reboot || {
        forget_trial
        finish 1
    }
    exit 0
}

activate_and_await() {
    at activate
    job_code=0
    journal=$(journal_end)
    echo "$journal" >"$job_directory/journal_end"
    switch "$job_new" || job_code=$?
    judge_failed_units "$journal"
    if only_boots; then
        echo "only a reboot can start this system: it is booted instead"
        job_code=0
        echo 0 >"$job_directory/code"
        return
    fi
    echo "$job_code" >"$job_directory/code"
    ! runs "$job_new" || restart_replaced
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
    finish "$job_code"
}

# Clean up after a job that was killed. Before the acknowledgement, go back; after it, do the steps that are left.
end_in_order() {
    [ ! -e "$job_directory/rc" ] || exit 0
    job_step=$(cat "$job_directory/step" 2>/dev/null || echo -)
    [ "$job_action" = boot ] || job_code=$(cat "$job_directory/code" 2>/dev/null || echo -)
    case $job_action-$job_step in
        dry-activate-*) finish - ;;
        *-reboot)
            # The machine goes down.
            [ ! -e "$job_directory/reboot" ] || exit 0
            forget_trial
            finish "$job_code"
            ;;
        boot-* | *-profile | *-boot) make_bootable ;;
    esac
    if [ "$job_rollback" = never ] || [ "$job_step" = - ]; then finish -; fi
    decide "$job_directory/decision" undo
    [ "$(readlink "$job_directory/decision")" != keep ] || make_bootable
    echo "the activation was killed"
    # Even if the new system does not run yet: part of the switch is done.
    roll_back -
}

job_code=0
[ "$job_mode" != guard ] || end_in_order
if [ "$job_action" != dry-activate ]; then
    # What can't be moved is still read where it is.
    move_kept || :
    remember - || :
fi
job_ways_in=$(list_ways_in)
echo "$job_ways_in" >"$job_directory/ways_in"
case $job_action in
    switch | test)
        # What runs now may not be a generation.
        [ -z "$job_old" ] || { mkdir -p "${nix_ops_root_before%/*}" && ln -sfn "$job_old" "$nix_ops_root_before"; } || :
        activate_and_await
        make_bootable
        ;;
    boot)
        make_bootable
        ;;
    dry-activate)
        step activate within "$job_switch_seconds" "$job_new/bin/switch-to-configuration" dry-activate
        finish 0
        ;;
esac
