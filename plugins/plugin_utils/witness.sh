# shellcheck shell=sh
# sh witness.sh TEXT: says the text on standard error, unless a line comes on standard input before its end. That ends
# when the process that writes to it is killed.

read -r _ || printf '%s\n' "$1" >&2
