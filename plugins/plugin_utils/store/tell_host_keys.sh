# shellcheck shell=sh
# Prints "host_key TYPE BASE64" for each SSH host key of this host. Needs host_keys.sh.

main() {
    host_key_files | while IFS= read -r file; do
        key=$(public_key "$file") && [ -z "$key" ] || echo "host_key $key"
    done
}
