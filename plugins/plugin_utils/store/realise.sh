# shellcheck shell=sh
# Starts a build on this host, detached from the connection that asks for it.
# Standard input: the job. Prints "directory NAME".

main() { # WORDS-OF-NIX-STORE...
    command -v nix-store >/dev/null || {
        echo "nix-store is not on the PATH ($PATH) of $(id -un)" >&2
        exit 127
    }
    umask 077
    directory=$(mktemp -d "${TMPDIR:-/tmp}/nix-ops-build.XXXXXX") || exit 1
    cat >"$directory/job"
    : >"$directory/log"
    setsid /bin/sh "$directory/job" "$directory" "$@" </dev/null >/dev/null 2>&1 &
    echo $! >"$directory/pid"
    identity $! >"$directory/identity"
    echo "directory $directory"
}
