# shellcheck shell=sh
# Starts a build on this host, detached from the connection that asks for it (detach.sh).
# Standard input: the job. Prints "directory NAME".

main() { # WORDS-OF-NIX-STORE...
    command -v nix-store >/dev/null || {
        echo "nix-store is not on the PATH ($PATH) of $(id -un)" >&2
        exit 127
    }
    start_job build "$@"
}
