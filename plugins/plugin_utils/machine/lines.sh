# shellcheck shell=sh disable=SC2154
# Works on many lines and words quickly. With `read`, some shells read one byte at a time, and each process takes its time.

# Call a function with the words of each line of a file, and end with the first call that fails. It must not be called in such
# a function.
each_line() { # FILE FUNCTION
    case $- in *f*) line_patterns='' ;; *) line_patterns=yes ;; esac
    set -f
    IFS=$nl
    # shellcheck disable=SC2046
    set -- "$2" $(cat -- "$1")
    unset IFS
    line_function=$1 line_result=0
    shift
    for line; do
        # shellcheck disable=SC2086
        "$line_function" $line || {
            line_result=$?
            break
        }
    done
    [ -z "$line_patterns" ] || set +f
    return "$line_result"
}

# Run a command with more words at its end. They have no spaces, and are no patterns.
with_words() { # WORDS COMMAND...
    case $- in *f*) word_patterns='' ;; *) word_patterns=yes ;; esac
    set -f
    words=$1
    shift
    # shellcheck disable=SC2086
    set -- "$@" $words
    [ -z "$word_patterns" ] || set +f
    "$@"
}
