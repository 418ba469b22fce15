#!/bin/sh
# Nix runs this as its "ssh". It connects to a host with exactly the options of its Ansible connection, whatever
# characters they have. All other destinations are the user's own, such as NIX_REMOTE or a remote builder: the next ssh on
# the PATH connects to them.
# The files beside it: proof, what only this ssh answers; options, the user's NIX_SSHOPTS; and a directory for each host
# with one word a line. command: the real ssh with its options and the destination. escalation: the words before the
# command that Nix runs there.

here=${0%/*}

if [ "$*" = --which-ssh-is-this ]; then
    exec cat -- "$here/proof"
fi

# Run the user's own ssh. Nix passes the destination first, or asks a shared connection of its own about it (-O).
own() {
    PATH=${PATH#"$here:"}
    # Nix splits its options at spaces, too.
    set -f
    # shellcheck disable=SC2046
    exec ssh $(cat "$here/options") "$@"
}

case $1 in
    -*)
        for word in "$@"; do
            case $word in
                *.nix-ops)
                    echo "nix.ops: unknown ssh arguments from Nix: $*" >&2
                    exit 255
                    ;;
            esac
        done
        own "$@"
        ;;
    *.nix-ops) ;;
    *) own "$@" ;;
esac
route=$here/$1
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
                done <"$route/escalation"
            fi
            ;;
    esac
    set -- "$@" "$word"
done

count=$#
while IFS= read -r word; do
    set -- "$@" "$word"
done <"$route/command"
while [ "$count" -gt 0 ]; do
    set -- "$@" "$1"
    shift
    count=$((count - 1))
done
exec "$@"
