# shellcheck shell=sh
# The job of a command. It runs detached on the host.
# sh job DIRECTORY COMMAND

directory=$1
umask 022
cd || cd /
/bin/sh -c "$2" >"$directory/log" 2>&1
echo $? >"$directory/rc.new"
mv "$directory/rc.new" "$directory/rc"
