# What deploy/install and deploy/upgrade share. Both run as root in the shop's directory.

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

# Everything lies where units and nginx look for it.
go_there() {
  [ "$(id -u)" = 0 ] || fail "run it as root"
  cd "$(dirname "$0")/.."
  [ "$(pwd -P)" = $PLACE ] || fail "the shop has to lie in $PLACE: git clone it there, and run this there"
}

# Not at the terminal of root's shell, into which other programs of that user could write commands.
as_shop() {
  setsid --wait runuser -u shop -- "$@"
}

# What the shop's user could write, root would run as it is: scripts, git's hooks, Python's packages.
not_the_shops() {
  found=$(as_shop find . -path ./instance -prune -o \
    ! -type l \( -user shop -o -writable \) -print -quit 2>/dev/null) || true
  [ -z "$found" ] || fail "the user shop may write $PLACE${found#.}, and so become root: let all there but \
instance belong to root alone (chown, chmod go-w)"
}

# The value of a setting in the file, as a shell reads it.
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

# Where Python's environment for these requirements lies: each version has its own, so that a new one
# is made while the old one is in use, and there is a way back.
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

# Whether systemctl says so of all that is to run.
every() {
  for each in lightning-space-web.socket $PROGRAMS $(timers); do
    systemctl "$1" --quiet "$each" 2>/dev/null || return 1
  done
}

# The commit that was started last: where deploy/upgrade goes back to.
RUNNING=refs/shop/running

# Start both programs; each says when it is up, or why it cannot be. Nobody gets at the pages before
# the first one is seen to be there.
start() {
  # The shop's user may not keep what Python compiles.
  .venv/bin/python -m compileall -q wsgi.py app.py lightningspace
  # After faults systemd would make us wait.
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
