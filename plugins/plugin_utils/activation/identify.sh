# shellcheck shell=sh
# Gives this machine an id that outlives reboots, unless it has one.

main() {
    make_identity
}
