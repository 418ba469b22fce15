# shellcheck shell=sh disable=SC2154
# Tells which activation is at work, and has it end if that is safe.
# Prints nothing if none is at work. Otherwise the directory of the activation, or - if it has no files, who began
# it and when, its step, and whether it goes back by itself. With the name of who ends it also what it does now:
#   undo    the new system runs and nobody has acknowledged it: the machine goes back
#   stop    the switch is ended, and the machine goes back (activation_job.sh: end_in_order)
#   finish  it is going back, or was acknowledged: it ends by itself, and nothing is done
#   never   it does not go back by itself: half a switch would be left, so nothing is done

line() { # KEY FILE
    echo "$1 $(head -c 1024 "$2" 2>/dev/null | head -n 1 | tr -cd ' -~')"
}

# Print a setting of the job.
setting() { # NAME
    sed -n "s/^job_$1='\{0,1\}\([^']*\)'\{0,1\}\$/\1/p" "$directory/job" | head -n 1
}

goes_back() {
    old=$(sed -n 's/^running //p' "$directory/before")
    [ "$(setting rollback)" != never ] && [ -x "$old/bin/switch-to-configuration" ]
}

# Tell the run that follows it why it ends.
tell() { # HOLDER
    printf '%s\n' "ended by $1 with nix.ops.unlock" >>"$directory/log" || :
}

end() { # HOLDER
    case $(cat "$directory/step" 2>/dev/null) in
        acknowledge | check)
            tell "$1"
            # Only one caller can make the link (symlink(2)).
            ln -s undo "$directory/decision" 2>/dev/null || [ -L "$directory/decision" ] || exit 73
            echo "ending undo"
            ;;
        activate | -)
            if [ "$(setting action)" != dry-activate ] && ! goes_back; then
                echo "ending never"
                return
            fi
            tell "$1"
            # systemd then ends the switch and runs the guard. A job to stop the unit would be one that the guard waits
            # for. Without a main process, the guard is at work already.
            if systemctl kill --kill-who=main --signal=TERM "$nix_ops_activation_unit"; then
                echo "ending stop"
            else
                echo "ending finish"
            fi
            ;;
        *) echo "ending finish" ;;
    esac
}

main() { # [HOLDER]
    is_activating || return 0
    directory=$(at_work | head -n 1)
    echo "activation ${directory:--}"
    echo "holder $(systemctl show --property=Description --value "$nix_ops_activation_unit" | head -c 1024 | tr -cd ' -~')"
    [ -n "$directory" ] || return 0
    line what "$directory/what"
    line step "$directory/step"
    echo "since $(stat -c %Y "$directory/what")"
    echo "now $(date +%s)"
    if goes_back; then echo "goes_back yes"; fi
    [ -z "$1" ] || end "$1"
}
