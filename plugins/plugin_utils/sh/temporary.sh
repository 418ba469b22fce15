# shellcheck shell=sh
# Makes a directory that one user alone can enter and prints its name; or removes it.
# main make USER | main remove DIRECTORY

main() {
    case $1 in
        make)
            umask 077
            directory=$(mktemp -d) && chown "$2" "$directory" && echo "$directory"
            ;;
        remove) rm -rf -- "$2" ;;
    esac
}
