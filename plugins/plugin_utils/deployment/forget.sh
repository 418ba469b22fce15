# shellcheck shell=sh disable=SC2154
# Forgets a deployment on this machine: its record, the list of the keys that it sent, and the GC root of what it copied
# last. The keys and the running system stay. Prints "forgotten yes", or "busy yes" while an activation is at work.

main() { # UUID
    if is_activating; then
        echo "busy yes"
        return
    fi
    rm -rf -- "${nix_ops_records:?}/$1" "${nix_ops_old_records:?}/$1" || exit
    rm -f -- "$nix_ops_keys/$1" "$nix_ops_root_copied$1" || exit
    echo "forgotten yes"
}
