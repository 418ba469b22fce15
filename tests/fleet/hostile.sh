#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# The login shell of a hostile machine. It runs what it is asked to, but answers a chosen call in its own way.
# hostile -c COMMAND   as sshd runs a login shell.
# hostile -s           reads a script; stands in the place of /bin/sh in a command.
# In /var/lib/hostile: texts (a pattern a line; the chosen call has them all), how (the misbehaviour), mark (a path on
# the controller, which a command of ours would make there), other (the name of another machine), pids (what hangs).

rules=/var/lib/hostile
forged="healthy> this line is forged"

# Return whether a file has all texts of the chosen call.
is_chosen() { # FILE
    [ -f "$rules/how" ] || return 1
    while IFS= read -r text; do
        grep -q -e "$text" "$1" || return 1
    done <"$rules/texts"
}

# Write what would end a line, a quotation or a string, and then a command.
inject() {
    printf '%s\n' "\$(touch $mark)" "\`touch $mark\`" "'; touch $mark; '" "\"; touch $mark; \"" "!touch $mark" \
        "{{ lookup('pipe', 'touch $mark') }}" "-oProxyCommand=touch $mark"
}

# Write what a terminal obeys, and what may count as the end of a line.
escape() {
    printf '\033[2K\r%s\n\302\205%s\342\200\250%s\342\200\256\033]0;title\007\302\233%s\n' \
        "$forged" "$forged" "$forged" "$forged"
    printf '\377\376\0\n%s\n' "$forged"
}

half() { # FILE
    head -c $(($(stat -c %s "$1") / 2)) "$1"
}

# Run a call and answer with what a filter makes of its answer. The last line of an answer tells its end.
change() { # FILTER...
    run >"$work/answer"
    "$@" <"$work/answer"
}

far_numbers() {
    sed -E 's/(^| )-?[0-9]+( |$)/\1-99999999999999999999999\2/g; s/(^| )-?[0-9]+( |$)/\1-99999999999999999999999\2/g'
}

another_machine() {
    sed -E "s/[0-9a-f]{8}-[0-9a-f]{4}-/00000000-0000-/g; s/\"machine\": \"[^\"]*\"/\"machine\": \"$other\"/"
    echo "record 99 {\"machine\": \"$other\"}"
}

misbehave() { # HOW
    echo $$ >>"$rules/pids"
    case $1 in
        silent) exec sleep 100000 ;;
        # The call is done, and its end is not told.
        silent-after)
            run
            exec sleep 100000
            ;;
        endless) exec yes "$forged" ;;
        endless-errors) exec yes "$forged" >&2 ;;
        one-line) exec head -c 200000000 /dev/zero ;;
        drip) while printf x; do sleep 1; done ;;
        wrong) printf 'nix.ops answers %s \n%s\nnix.ops ends 0\n' "$(cat /proc/sys/kernel/random/boot_id)" "$forged" ;;
        unknown) change sed "\$i $forged" ;;
        other) change another_machine ;;
        numbers) change far_numbers ;;
        escapes)
            change cat
            escape
            escape >&2
            ;;
        commands)
            change cat
            inject
            inject >&2
            ;;
        cut)
            run >"$work/answer"
            half "$work/answer"
            ;;
        twice)
            run >"$work/answer"
            cat "$work/answer" "$work/answer"
            ;;
        nothing) exit 0 ;;
        # The call is done, and nothing is told.
        mute) run >/dev/null 2>&1 ;;
        fails)
            escape >&2
            inject >&2
            exit 1
            ;;
        lost)
            echo "$forged" >&2
            exit 255
            ;;
    esac
    exit
}

mark=$(cat "$rules/mark" 2>/dev/null) other=$(cat "$rules/other" 2>/dev/null)
case ${1-} in
    -c)
        command=$2
        work=$(mktemp -d -p ~)
        printf '%s\n' "$command" >"$work/call"
        run() { /bin/sh -c "$command"; }
        if is_chosen "$work/call"; then
            misbehave "$(cat "$rules/how")"
        fi
        rm -rf "$work"
        exec /bin/sh -c "$(printf '%s\n' "$command" | sed "s#/bin/sh -s#$0 -s#")"
        ;;
    -s)
        work=$(mktemp -d -p ~)
        cat >"$work/call"
        run() { /bin/sh -s <"$work/call"; }
        if is_chosen "$work/call"; then
            misbehave "$(cat "$rules/how")"
        fi
        run
        code=$?
        rm -rf "$work"
        exit "$code"
        ;;
esac
exec /bin/sh "$@"
