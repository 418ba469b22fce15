# shellcheck shell=sh
# The SSH host keys of this host. Only root may read the private ones.

# Print the files of the private keys, Ed25519 first. Where the SSH server does not tell them, print the usual ones.
host_key_files() {
    files=$(sshd -T 2>/dev/null | sed -n 's/^hostkey //p')
    [ -n "$files" ] || files=$(ls /etc/ssh/ssh_host_*_key)
    printf '%s\n' "$files" | grep ed25519
    printf '%s\n' "$files" | grep -v ed25519
}

# Print the public key of a private key, without its comment.
public_key() { # FILE
    sed 's/^\([^ ]* [^ ]*\).*/\1/;q' "$1.pub" 2>/dev/null || ssh-keygen -y -f "$1" </dev/null | sed 's/^\([^ ]* [^ ]*\).*/\1/;q'
}
