#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# All tests, with both pairs: the one that fits this Debian here, the other in a root of the other Debian.
set -u
. "$(dirname -- "$0")/common.sh"

failed=
step() {
    label=$1
    shift
    printf '\n==> %s\n' "$label"
    began=$(date +%s)
    "$@" || failed="$failed
    $label"
    printf '    %s: %s s\n' "$label" "$(($(date +%s) - began))"
}

# Sums up what each pytest run counted, in the words of its closing line.
closing_line() {
    cat "$checkout/.cache/$release/junit.xml" "$checkout/.cache/$other_release/junit.xml" 2>/dev/null |
        grep -o '<testsuite [^>]*' | awk -F'"' '
            { for (i = 1; i < NF; i += 2) { sub(/.* /, "", $i); sum[$i] += $(i + 1) } }
            function add(count, word) { if (count) words = words (words ? ", " : "") count " " word }
            END {
                bad = sum["failures="] + sum["errors="]
                add(bad, "failed")
                add(sum["tests="] - bad - sum["skipped="], "passed")
                add(sum["skipped="], "skipped")
                printf "=========== %s in %.2fs ===========\n", words ? words : "no tests ran", sum["time="]
            }'
}

rm -rf "$checkout/.cache/$release" "$checkout/.cache/$other_release"
# Tests wait for machines now and then, so both pairs are tested at once.
elsewhere=$(mktemp)
(
    "$tools/enter.sh" "$tools/sanity.sh" &&
        "$tools/enter.sh" "$tools/pytest.sh" -m "not one_pair" --numprocesses=2 "$@"
) >"$elsewhere" 2>&1 &
other_pair() {
    wait "$!"
    other_code=$?
    cat "$elsewhere"
    rm -f "$elsewhere"
    return "$other_code"
}

step "lint" "$tools/lint.sh"
step "sanity, Debian $release" "$tools/sanity.sh"
step "tests, Debian $release" "$tools/pytest.sh" "$@"
step "sanity and tests, Debian $other_release" other_pair

printf '\n'
cat "$checkout/.cache/$release/pair" "$checkout/.cache/$other_release/pair"
[ -z "$failed" ] || printf 'Failed:%s\n' "$failed"
closing_line
[ -z "$failed" ]
