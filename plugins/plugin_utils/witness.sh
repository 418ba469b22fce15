# shellcheck shell=sh
# sh witness.sh TEXT: says the text on standard error when standard input ends, unless the line "over" came before. It
# ends when the process that writes to it is killed. The lines "begin" and "line TEXT" replace the text.

text=$1
while IFS= read -r line; do
    case $line in
        over) exit ;;
        begin) text= ;;
        *)
            text="${text:+$text
}${line#line }"
            ;;
    esac
done
printf '%s\n' "$text" >&2
