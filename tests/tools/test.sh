#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# test.sh [--everything] [PYTEST'S WORDS…]: all tests with the pair that fits this Debian, and with the other, in a root
# of the other Debian, what depends on versions; with --everything the other pair has all tests as well.
set -u
. "$(dirname -- "$0")/common.sh"

# What ansible-test and pytest run with the other pair, on top of what they are given.
other_sanity='--test compile --test import --test validate-modules'
other_tests='-m both_pairs'
if [ "${1-}" = --everything ]; then
    shift
    other_sanity='' other_tests=''
fi

failed=
step() {
    label=$1
    shift
    printf '\n==> %s\n' "$label"
    part "$label" "$@" || failed="$failed
    $label"
}

# Runs a command and prints how long it took.
part() {
    part_label=$1
    shift
    began=$(date +%s)
    "$@"
    part_code=$?
    printf '    %s: %s s\n' "$part_label" "$(($(date +%s) - began))"
    return "$part_code"
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
# shellcheck disable=SC2086
(
    part "sanity, Debian $other_release" "$tools/enter.sh" "$tools/sanity.sh" $other_sanity &&
        part "tests, Debian $other_release" "$tools/enter.sh" "$tools/pytest.sh" $other_tests --numprocesses=2 "$@"
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
