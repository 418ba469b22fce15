# shellcheck shell=sh
# The job that activates a toplevel, as the machine runs it by itself.
# sh job DIRECTORY ACTION TOPLEVEL PROFILE UNFINISHED LAST DEPLOYMENT
# The action switch is done as test, profile, boot: a machine that breaks half way still
# boots what it ran before.

# The user's variables are read below: the names of these are none that he would choose.
job_directory=$1 job_action=$2 job_new=$3 job_profile=$4 boot_unfinished=$5
job_last=$6 job_deployment=$7
cd / || exit 1
umask 022
# shellcheck source=/dev/null
. "$job_directory/variables"

# A full disk keeps no activation from ending.
remember() { # EXIT-CODE
    (umask 077 && mkdir -p "${job_last%/*}") &&
        echo "$job_deployment $job_new $job_action $1 $(date +%s)" >"$job_last.new" &&
        mv "$job_last.new" "$job_last"
}

# An exit code of 0 keeps the unit from being marked as failed; the true one is in the file.
finish() { # EXIT-CODE
    [ "$job_action" = dry-activate ] || remember "$1" || :
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

case $job_action in
    switch)
        step activate "$job_new/bin/switch-to-configuration" test
        profile_and_boot
        ;;
    boot)
        profile_and_boot
        ;;
    test | dry-activate)
        step activate "$job_new/bin/switch-to-configuration" "$job_action"
        ;;
esac
finish 0
