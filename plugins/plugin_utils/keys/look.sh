# shellcheck shell=sh disable=SC2034,SC2154
# Tells beside the description of a machine (describe.sh) which keys a deploy would send, by compare.sh.
# Standard input: the deployment, a salt and the sum of all keys, then for each key a line as that of the table.
# Prints lines:
#   key_differs NUMBER
#   key_gone NAME      a key that left the network
#   keys_unknown yes   if that can't be told

refuse() { # WHY NUMBER TEXT
    exit 1
}

look() (
    read -r deployment salt sum
    list=$nix_ops_keys/$deployment tolerance=lenient extent=part
    umask 077
    work=$(mktemp -d "$nix_ops_keys_work.XXXXXXXX") || exit
    trap 'rm -rf -- "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    [ "$(id -u)" = 0 ] || exit
    table=$(cat)$nl
    set_listed
    compare
    find_gone
    printf %s "$answer" | sed 's/^left /key_gone /;t;s/^[a-z]*/key_differs/'
)

print_compared_keys() {
    look 2>/dev/null || echo "keys_unknown yes"
}
