# shellcheck shell=sh
# Makes a directory that the caller alone may write to and answers "directory NAME"; or removes it.
# main make PARENT | main remove DIRECTORY

main() {
    case $1 in
        make)
            directory=$(mktemp -d "${2%/}/nix-ops-closure.XXXXXX") && chmod 755 "$directory" &&
                echo "directory $directory"
            ;;
        remove) rm -rf -- "$2" ;;
    esac
}
