# shellcheck shell=bash
# Helpers of the cases. A case runs under `set -e`: the first thing that is not as it should be ends it.

# equal WHAT ACTUAL EXPECTED
equal() {
    if [[ $2 != "$3" ]]; then
        echo "$1: $2, expected $3"
        return 1
    fi
}

# must_fail CODE WHAT COMMAND...: the command must end with that exit code.
must_fail() {
    local expected=$1 what=$2 code=0
    shift 2
    "$@" >/tmp/must_fail 2>&1 || code=$?
    cat /tmp/must_fail
    equal "$what: exit code" "$code" "$expected"
}

# wait_for WHAT COMMAND...: until the command succeeds, for at most a minute.
wait_for() {
    local what=$1 tries=0
    shift
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        if ((tries > 600)); then
            echo "waited for a minute in vain: $what"
            return 1
        fi
        sleep 0.1
    done
}
