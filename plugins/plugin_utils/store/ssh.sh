#!/bin/sh
# Stands as "ssh" first on Nix's PATH: goes to a machine with exactly the options of its
# Ansible connection, whatever characters are in them.
# Beside it, a word a line: "command", the real ssh with its options and the destination;
# "escalation", what comes before the command that Nix runs on the machine.

here=${0%/*}

# Nix's words are the destination, which "command" has already, options, and the command.
case $1 in
    -*)
        echo "nix.ops: Nix calls ssh in a way that is not known here: $*" >&2
        exit 255
        ;;
esac
shift

# The words are turned round once: each goes from the front to the end.
count=$#
option=
escalated=
while [ "$count" -gt 0 ]; do
    word=$1
    shift
    count=$((count - 1))
    case $option$word in
        # Nix waits for this line before it speaks. A connection that is shared never says it.
        *LocalCommand=echo\ started)
            echo started
            option=
            continue
            ;;
        *PermitLocalCommand=yes)
            option=
            continue
            ;;
        -o | -i | -S | -l | -p)
            option=$word
            continue
            ;;
    esac
    if [ -n "$option" ]; then
        set -- "$@" "$option" "$word"
        option=
        continue
    fi
    case $word in
        -*) ;;
        *)
            if [ -z "$escalated" ]; then
                escalated=yes
                while IFS= read -r before; do
                    set -- "$@" "$before"
                done <"$here/escalation"
            fi
            ;;
    esac
    set -- "$@" "$word"
done

count=$#
while IFS= read -r word; do
    set -- "$@" "$word"
done <"$here/command"
while [ "$count" -gt 0 ]; do
    set -- "$@" "$1"
    shift
    count=$((count - 1))
done
exec "$@"
