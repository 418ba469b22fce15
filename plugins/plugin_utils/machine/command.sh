# shellcheck shell=sh
# Starts a command on this host, detached from the connection that asks for it (detach.sh).
# Standard input: the job. Prints "directory NAME".

main() { # COMMAND
    start_job command "$1"
}
