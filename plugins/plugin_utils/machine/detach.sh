# shellcheck shell=sh
# Starts jobs on this host that are detached from the connection that asks for them (job.sh).

# Start the job that is on standard input. Print "directory NAME".
start_job() { # NAME WORDS-OF-THE-JOB...
    umask 077
    directory=$(mktemp -d "${TMPDIR:-/tmp}/nix-ops-$1.XXXXXX") || exit 1
    shift
    cat >"$directory/job"
    : >"$directory/log"
    setsid /bin/sh "$directory/job" "$directory" "$@" </dev/null >/dev/null 2>&1 &
    echo $! >"$directory/pid"
    identity $! >"$directory/identity"
    echo "directory $directory"
}
