# shellcheck shell=sh
# Makes a directory that only the caller may write to, and prints "directory NAME"; or removes it.

main() { # make PARENT | remove DIRECTORY
    case $1 in
        make)
            directory=$(mktemp -d "${2%/}/nix-ops-closure.XXXXXX") && chmod 755 "$directory" &&
                echo "directory $directory"
            ;;
        remove) rm -rf -- "$2" ;;
    esac
}
