# shellcheck shell=sh
# The job of a build. It runs detached on the host.
# sh job DIRECTORY WORDS-OF-NIX-STORE...

directory=$1
shift
umask 022
nix-store "$@" >"$directory/out" 2>"$directory/log"
echo $? >"$directory/rc.new"
mv "$directory/rc.new" "$directory/rc"
