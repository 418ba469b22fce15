#!/bin/sh
# ssh runs this as its KnownHostsCommand: prints the host keys of the one machine that it connects to, which are the
# words. They hold whatever the machine's address, port or alias is.
printf '* %s\n' "$@"
