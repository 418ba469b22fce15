# shellcheck shell=sh
# The job that takes closures from another host's store. It runs detached on the host.
# sh job DIRECTORY OPTIONS NAME USER ADDRESS PORT KNOWN-HOSTS PATH...

directory=$1 options=$2 name=$3 user=$4 address=$5 port=$6 known=$7
shift 7
umask 022
printf '%s\n' "$known" >"$directory/known_hosts"
# Nothing of this host's own configuration of ssh, which may lead elsewhere.
NIX_SSHOPTS="-F none $options -p $port -o HostName=$address -o HostKeyAlias=$name -o IdentitiesOnly=yes \
-o StrictHostKeyChecking=yes -o UserKnownHostsFile=$directory/known_hosts -o GlobalKnownHostsFile=/dev/null \
-o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=15 -o ServerAliveCountMax=4"
export NIX_SSHOPTS
nix-copy-closure --from "$user@$name" "$@" >"$directory/log" 2>&1
echo $? >"$directory/rc.new"
mv "$directory/rc.new" "$directory/rc"
