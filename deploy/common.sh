# Functions that deploy/install and deploy/upgrade share. Both run as root in the shop's directory.

PLACE=/srv/lightning-space
SETTINGS=/etc/lightning-space.env
UNITS=/etc/systemd/system
SOCKET=/run/lightning-space/web
PROGRAMS="lightning-space-web lightning-space-worker"

say() {
  printf '%s\n' "$*"
}

fail() {
  printf '%s: %s\n' "$0" "$*" >&2
  exit 1
}

# The units and nginx's site name this directory.
go_there() {
  [ "$(id -u)" = 0 ] || fail "run it as root"
  cd "$(dirname "$0")/.."
  [ "$(pwd -P)" = $PLACE ] || fail "the shop must be in $PLACE: git clone it there, and run this from there"
}

# Run as the shop's user, detached from root's terminal: other programs of that user could type
# commands into it.
as_shop() {
  setsid --wait runuser -u shop -- "$@"
}

# Root runs what is here: scripts, git's hooks, Python's packages. So the shop's user must not be able
# to write any of it.
not_the_shops() {
  found=$(as_shop find . -path ./instance -prune -o \
    ! -type l \( -user shop -o -writable \) -print -quit 2>/dev/null) || true
  [ -z "$found" ] || fail "the user shop may write $PLACE${found#.}, and could so become root: everything \
there except instance must belong to root, and be writable by root alone (chown, chmod go-w)"
}

# Print a setting's value as the shell reads it from the file, or nothing.
setting() {
  (
    unset "$1"
    [ ! -e $SETTINGS ] || . $SETTINGS
    eval "printf '%s' \"\${$1:-}\""
  )
}

has_systemd() {
  [ -d /run/systemd/system ]
}

# Print the directory of the Python environment for these requirements. Each version has its own, so
# that a new one can be made while the old one is in use, and the old one is there to go back to.
environment_for() {
  echo ".venvs/$({ python3 -V && cat "$1"; } | sha256sum | cut -c 1-16)"
}

make_environment() { # requirements, directory
  rm -rf "$2"
  python3 -m venv "$2"
  "$2/bin/pip" install --quiet --disable-pip-version-check --require-hashes --requirement "$1"
  touch "$2/ready"
}

use_environment() {
  [ -L .venv ] || [ ! -e .venv ] || mv .venv .venvs/by-hand
  ln -sfn "$1" .venv
}

timers() {
  find deploy/systemd -name '*.timer' -printf '%f '
}

# Whether systemctl answers yes (is-active, is-enabled) for every unit of the shop.
every() {
  for each in lightning-space-web.socket $PROGRAMS $(timers); do
    systemctl "$1" --quiet "$each" 2>/dev/null || return 1
  done
}

# The commit that was last started: deploy/upgrade goes back to it.
RUNNING=refs/shop/running

# Start both programs, and wait until each reports that it is up. The socket opens to the web server
# only after the front page has answered. When something fails, show the logs and stop again.
start() {
  # The shop's user cannot write the bytecode itself.
  .venv/bin/python -m compileall -q wsgi.py app.py lightningspace
  # After repeated failures systemd would refuse to start them for a while.
  systemctl reset-failed 'lightning-space-*' 2>/dev/null || true
  systemctl start lightning-space-web.socket
  chmod 0600 $SOCKET
  if systemctl start $PROGRAMS && front_page; then
    chmod 0660 $SOCKET
    [ ! "$(timers)" ] || systemctl start $(timers)
    git update-ref $RUNNING HEAD || say "without git, deploy/upgrade cannot go back"
    return
  fi
  for each in $PROGRAMS; do
    journalctl --unit "$each" --lines 5 --output cat --no-pager >&2
  done
  stop
  return 1
}

front_page() {
  .venv/bin/python - $SOCKET <<'PYTHON'
import http.client, socket, sys

connection = http.client.HTTPConnection("localhost")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.settimeout(30)
connection.sock.connect(sys.argv[1])
connection.request("GET", "/", headers={"X-Forwarded-For": "127.0.0.1", "Accept": "text/html"})
status = connection.getresponse().status
sys.exit(status != 200 and f"the front page answers {status}")
PYTHON
}

stop() {
  systemctl stop lightning-space-web.socket $PROGRAMS
}
