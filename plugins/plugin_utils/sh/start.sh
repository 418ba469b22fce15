# shellcheck shell=sh
# Put before every script that goes to a host: reads its words, then calls its main.
# Words arrive one a line, "w:" and the word, or "e:" and NAME=VALUE to be exported; a byte
# outside a plain alphabet is written as % and three octal digits.
# Standard input: the words. File descriptor 3: what main finds on standard input.

start() {
    set --
    while IFS= read -r line; do
        value=${line#?:}
        case $value in
            *%*)
                # The dot keeps trailing newlines, which $( ) drops.
                value=$(printf '%b.' "$(printf '%s' "$value" | sed 's/%/\\0/g')")
                value=${value%.}
                ;;
        esac
        case $line in
            e:*) export "${value?}" ;;
            w:*) set -- "$@" "$value" ;;
        esac
    done
    unset line value
    main "$@" <&3 3<&-
}
