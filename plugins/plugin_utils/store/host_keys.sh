# shellcheck shell=sh
# The SSH host keys of this host. Only root may read the private ones.

# Print the files of the private keys, those of the SSH server's own configuration first.
host_key_files() {
    sshd -T 2>/dev/null | sed -n 's/^hostkey //p'
    ls /etc/ssh/ssh_host_ed25519_key /etc/ssh/ssh_host_rsa_key 2>/dev/null
}

# Print the public key of a private key, without its comment.
public_key() { # FILE
    sed 's/^\([^ ]* [^ ]*\).*/\1/;q' "$1.pub" 2>/dev/null || ssh-keygen -y -f "$1" </dev/null | sed 's/^\([^ ]* [^ ]*\).*/\1/;q'
}
