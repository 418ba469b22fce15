# shellcheck shell=sh
# Put before every script that goes to a host: reads its words, then calls its main.
# Words arrive one a line, "w:" and the word, or "e:" and NAME=VALUE to be exported; a byte
# outside a plain alphabet is written as % and three octal digits.
# Standard input: the words. File descriptor 3: what main finds on standard input.
# The answer begins after the line "nix.ops answers".

# A session of sudo, doas or a container has not always the directories of NixOS.
PATH=${PATH:+$PATH:}/run/wrappers/bin:/nix/var/nix/profiles/default/bin:/run/current-system/sw/bin
export PATH

# In a container the store belongs to the daemon outside: NixOS says so to login shells alone.
if [ -z "${NIX_REMOTE-}" ] && [ -S /nix/var/nix/daemon-socket/socket ] &&
    [ -d /nix/var/nix/db ] && [ ! -w /nix/var/nix/db ]; then
    NIX_REMOTE=daemon
    export NIX_REMOTE
fi

start() {
    set --
    while IFS= read -r line; do
        value=${line#?:}
        case $value in
            *%*)
                # The dot keeps trailing newlines, which $( ) drops.
                value=$(printf '%b.' "$(printf '%s' "$value" | sed 's/%/\\0/g')")
                value=${value%.}
                ;;
        esac
        case $line in
            e:*) export "${value?}" ;;
            w:*) set -- "$@" "$value" ;;
        esac
    done
    unset line value
    # What a shell's start-up files print stands before this line.
    echo "nix.ops answers"
    main "$@" <&3 3<&-
}
