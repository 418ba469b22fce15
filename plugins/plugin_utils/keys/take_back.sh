# shellcheck shell=sh disable=SC2154
# Puts back the keys that were replaced for an activation that has not begun. One that has begun does so itself.
# Prints a line "back NAME" for each key.

main() {
    trap unlock EXIT
    lock "$nix_ops_keys_lock" 20 || exit 0
    ! is_activating || exit 0
    take_keys_back >/dev/null
    restart_taken_back >&2
    for name in $taken_back; do
        echo "back $name"
    done
}
