# shellcheck shell=sh
# The job that activates a toplevel, as the machine runs it by itself.
# sh job DIRECTORY ACTION TOPLEVEL PROFILE
# The action switch is done as test, profile, boot: a machine that breaks half way still
# boots what it ran before.

directory=$1 action=$2 new=$3 profile=$4
cd / || exit 1
umask 022
# shellcheck source=/dev/null
. "$directory/variables"

# An exit code of 0 keeps the unit from being marked as failed; the true one is in the file.
finish() { # EXIT-CODE
    echo "$1" >"$directory/rc.new"
    mv "$directory/rc.new" "$directory/rc"
    exit 0
}

step() { # NAME COMMAND...
    echo "$1" >"$directory/step"
    shift
    "$@" || finish $?
}

case $action in
    switch)
        step activate "$new/bin/switch-to-configuration" test
        step profile nix-env --profile "$profile" --set "$new"
        step boot "$new/bin/switch-to-configuration" boot
        ;;
    boot)
        step profile nix-env --profile "$profile" --set "$new"
        step boot "$new/bin/switch-to-configuration" boot
        ;;
    test | dry-activate)
        step activate "$new/bin/switch-to-configuration" "$action"
        ;;
esac
finish 0
