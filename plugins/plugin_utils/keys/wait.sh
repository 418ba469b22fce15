# shellcheck shell=sh
# The unit of a key waits for its file.

wait_for() { # PATH
    until [ -e "$1" ]; do
        sleep 1
    done
}
