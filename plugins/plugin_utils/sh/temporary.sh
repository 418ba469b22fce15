# shellcheck shell=sh
# Makes a directory that the caller alone may write to and prints its name; or removes it.
# main make | main remove DIRECTORY

main() {
    case $1 in
        make) directory=$(mktemp -d) && chmod 755 "$directory" && echo "$directory" ;;
        remove) rm -rf -- "$2" ;;
    esac
}
