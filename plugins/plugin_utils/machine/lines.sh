# shellcheck shell=sh disable=SC2154
# Loops over many lines and words. `read` would be slow: some shells read one byte at a time with it.

# Call a function for each line of a text, with the line's words as arguments. Stop at the first call that fails. Calls can't be
# nested.
each_line() { # TEXT FUNCTION
    case $- in *f*) line_patterns='' ;; *) line_patterns=yes ;; esac
    set -f
    IFS=$nl
    # shellcheck disable=SC2086
    set -- "$2" $1
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

# Run a command with words added at its end. Patterns in them are not expanded.
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
