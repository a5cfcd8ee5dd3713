"""A shell function to wait with, for the rig's scripts."""

UNTIL_SO = """
until_so() {
    tries=0
    until "$@"; do
        tries=$((tries + 1))
        [ $tries -lt 500 ] || { echo "waited in vain for: $*" >&2; exit 1; }
        sleep 0.03
    done
}
"""
