# shellcheck shell=sh
# The unit of a key waits for its file. @sleep@ is the path of that program.
# Word: the file.

until [ -e "$1" ]; do
    @sleep@ 1
done
