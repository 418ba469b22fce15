# shellcheck shell=sh
# Starts to take closures from another host's store, detached from the connection that asks for it (detach.sh,
# host_keys.sh). This host logs in there with its own SSH host key.
# Standard input: the job. Prints "public_key TYPE BASE64" and "directory NAME".

main() { # NAME USER ADDRESS PORT KNOWN-HOSTS PATH...
    for file in $(host_key_files); do
        [ -r "$file" ] || continue
        echo "public_key $(public_key "$file")"
        start_job take "$file" "$@"
        return
    done
    echo "no SSH host key can be read by $(id -un)" >&2
    exit 1
}
