# shellcheck shell=sh
# Starts to take closures from another host's store, detached from the connection that asks for it (detach.sh,
# host_keys.sh). This host logs in there with its own SSH host keys.
# Standard input: the job. Prints "public_key TYPE BASE64" and "directory NAME".

main() { # NAME USER ADDRESS PORT KNOWN-HOSTS PATH...
    keys=
    for file in $(host_key_files); do
        [ -r "$file" ] || continue
        [ -n "$keys" ] || echo "public_key $(public_key "$file")"
        keys="$keys -i $file"
    done
    if [ -z "$keys" ]; then
        echo "no SSH host key can be read by $(id -un)" >&2
        exit 1
    fi
    start_job take "$keys" "$@"
}
