#!/bin/sh
# Nix runs this as its "ssh". It connects to a machine with exactly the options of its Ansible connection, whatever
# characters they have.
# The files beside it have one word a line. command: the real ssh with its options and the destination. escalation: the
# words before the command that Nix runs on the machine. proof: what only this ssh answers.

here=${0%/*}

if [ "$*" = --which-ssh-is-this ]; then
    exec cat -- "$here/proof"
fi

# Nix passes the destination, options and the command. The file "command" has the destination already.
case $1 in
    -*)
        echo "nix.ops: unknown ssh arguments from Nix: $*" >&2
        exit 255
        ;;
esac
shift

# Go through the words once: take each from the front, and append those to keep.
count=$#
option=
escalated=
while [ "$count" -gt 0 ]; do
    word=$1
    shift
    count=$((count - 1))
    case $option$word in
        # Nix waits for this line. A shared connection never prints it.
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
