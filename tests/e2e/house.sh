# The house that hsm-config/quickstart sets up (sshd, gate, keyguard, broker, witnesses, swtpm, SoftHSM), for the tests of
# it: its people, their commands, its parts, and what every check says. Sourced as
#   . tests/e2e/house.sh NAME BUILD-DIRECTORY [HOME]
# from the top of the source, as root. HOME is a house that quickstart --keep left running: it is left running.
[ -n "${2:-}" ] && [ -d "$2/bin" ] || { echo "usage: tests/e2e/$1 BUILD-DIRECTORY" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "$1: needs root, for a mount namespace and sshd" >&2; exit 77; }
BIN=$(readlink -f "$2")/bin
HOME_DIR=${3:-}
KEEP=yes
[ -n "$HOME_DIR" ] || { KEEP=no HOME_DIR=$(mktemp -d "/tmp/sallyport-$1.XXXXXX"); }
export SALLYPORT_BUILD=${BIN%/bin} SALLYPORT_HOME=$HOME_DIR
WORK=$(mktemp -d "/tmp/sallyport-$1-work.XXXXXX")
FAILED=0 PASSED=0
exec 9<> <(:)  # a descriptor that never has anything: to wait on

end() {
  local pid
  for pid in $(jobs -pr; jobs -ps); do kill -CONT "$pid" 2>/dev/null && kill "$pid" 2>/dev/null; done  # what we started beside the house
  wait 2>/dev/null
  if [ $KEEP = no ]; then
    ./hsm-config/quickstart --down >/dev/null
    rm -rf "$HOME_DIR"
  fi
  rm -rf "$WORK"
}
trap end EXIT
trap 'exit 1' INT TERM

# ---- what every check says

pass() { PASSED=$((PASSED + 1)); printf 'ok   %3d s  %s\n' $SECONDS "$1"; }
flunk() {  # flunk NAME [FILE…]: with the last lines of what was seen
  FAILED=$((FAILED + 1))
  printf 'FAIL %3d s  %s\n' $SECONDS "$1"
  shift
  local file
  for file in "$@"; do sed 's/^/        | /' "$file" | tail -n 12; done
}
# refused NAME STATUS TEXT COMMAND…: the command ends with this exit code, and says this.
refused() {
  local name=$1 wanted=$2 text=$3 status=0
  shift 3
  "$@" >"$WORK/said" 2>&1 || status=$?
  judge "$name" "$wanted" "$text" $status "$WORK/said"
}
judge() {  # judge NAME WANTED-STATUS TEXT STATUS FILE
  if [ "$4" = "$2" ] && grep -qF -- "$3" "$5"; then
    pass "$1"
  else
    echo "(exit $4, wanted $2 with $3)" >>"$5"
    flunk "$1" "$5"
  fi
}
works() {  # works NAME COMMAND…
  local name=$1 status=0
  shift
  "$@" >"$WORK/said" 2>&1 || status=$?
  if [ $status = 0 ]; then pass "$name"; else echo "(exit $status)" >>"$WORK/said"; flunk "$name" "$WORK/said"; fi
}
until_true() {  # until_true SECONDS COMMAND…
  local deadline=$((${EPOCHREALTIME/./} + $1 * 1000000))
  shift
  until "$@" >/dev/null 2>&1; do
    [ ${EPOCHREALTIME/./} -lt $deadline ] || return 1
    read -rt 0.05 -u 9 || :
  done
}
says() { grep -qF -- "$2" "$1"; }
# A log is judged from where it was: mark LOG before, logged LOG TEXT after.
declare -A MARK
mark() { MARK[$1]=$(stat -c %s "$HOME_DIR/logs/$1"); }
logged() { tail -c +$((MARK[$1] + 1)) "$HOME_DIR/logs/$1" | grep -qE -- "$2"; }
expect_logged() {  # expect_logged NAME LOG TEXT
  if until_true 5 logged "$2" "$3"; then
    pass "$1"
  else
    { echo "(logs/$2 does not say: $3)"; tail -c +$((MARK[$2] + 1)) "$HOME_DIR/logs/$2"; } >"$WORK/said"
    flunk "$1" "$WORK/said"
  fi
}

# ---- people and their commands

pin() { printf '%s/pins/%s' "$HOME_DIR" "$1"; }
as() {  # as NAME COMMAND…
  local name=$1
  shift
  SALLYPORT_CONFIG=$HOME_DIR/people/$name SOFTHSM2_CONF=$HOME_DIR/tokens/$name/softhsm2.conf timeout 40 \
    "$BIN/sallyport" "$@" --pin-file "${PIN_FILE:-$(pin "$name")}"
}
# decision NAME CASE: what this person's own machine says is to be signed; nothing where it refuses to say.
decision() { as "$1" review "$2" -f json 2>/dev/null | grep -o '"to_sign":"[0-9a-f]*"' | cut -d'"' -f4; }
approve() { as "$1" approve "$2" --confirm "$(decision "$1" "$2")" "${@:3}"; }  # approve NAME CASE [FLAG…]
all_approve() {  # all_approve CASE: the three were shown the same decision
  local name digest
  digest=$(decision alice "$1")
  for name in alice bob dana; do
    as "$name" approve "$1" --confirm "$digest" >"$WORK/approval-$name" 2>&1 || { cat "$WORK/approval-$name"; return 1; }
  done
}
# start_asking FLAG… [-- COMMAND]: erin asks, in the background; its output in $OUT, its PID (of timeout, whose child it is) in
# $ASKING. What the session reads comes from descriptor 8, until close_input. ask waits for the case too: $CASE.
ROUND=0
start_asking() {
  ROUND=$((ROUND + 1)) OUT=$WORK/ask-$ROUND
  rm -f "$WORK/input" && mkfifo "$WORK/input"
  SALLYPORT_CONFIG=$HOME_DIR/people/erin SOFTHSM2_CONF=$HOME_DIR/tokens/erin/softhsm2.conf PATH=${ASK_PATH:-$PATH} \
    timeout 60 "$BIN/sallyport" ssh db-7 --reason "INC-4711: round $ROUND" --pin-file "$(pin erin)" "$@" \
    <"$WORK/input" >"$OUT" 2>&1 9<&- &
  ASKING=$!
  exec 8>"$WORK/input"
}
# The first thread of a killed process is a zombie while others may still hold its sockets.
is_over() {
  ! kill -0 "$1" 2>/dev/null ||
    { grep -q '^State:.*Z' "/proc/$1/status" && [ "$(find "/proc/$1/task" -mindepth 1 -maxdepth 1 | wc -l)" -le 1 ]; } 2>/dev/null
}
is_gone() { is_over "$ASKING"; }
asked() { grep -q '^case ' "$OUT" || is_gone; }
ask() {
  start_asking "$@"
  until_true 10 asked
  CASE=$(sed -n 's/^case  *c-\([0-9a-f]*\).*/\1/p' "$OUT")
  [ -n "$CASE" ] || { CASE=none; return 1; }
}
whole_id() { as erin request ls -f json 2>/dev/null | grep -o "\"case\":\"$CASE[0-9a-f]*" | cut -d'"' -f4; }
close_input() { exec 8>&-; }
ended() {  # ended: waits for the one who asked; its status in $STATUS
  STATUS=0
  wait "$ASKING" 2>/dev/null || STATUS=$?
  close_input
}
expect_ended() {  # expect_ended NAME STATUS TEXT
  ended
  judge "$1" "$2" "$3" $STATUS "$OUT"
}
open_session() {  # open_session FLAG…: a granted session that is open, and stays until its input ends
  ask "$@" -- 'echo ready; cat >/dev/null' && all_approve "$CASE" >/dev/null && until_true 10 grep -qx ready "$OUT"
}
whole_access() {  # one access from request to the session's end
  ask -- id -un
  all_approve "$CASE" >/dev/null && ended && [ $STATUS = 0 ] && grep -qx dbadmin "$OUT" || { cat "$OUT"; return 1; }
}
door() { nsenter -t "$(cat "$HOME_DIR/pids/target")" -m "$@"; }  # in the target's mount namespace

# ---- parts of the house: by PID, started again as they were

part() { cat "$HOME_DIR/pids/$1"; }
stop() {  # stop NAME [SIGNAL]
  local pid
  pid=$(part "$1")
  mapfile -d '' -t "ARGV_$1" <"/proc/$pid/cmdline"
  kill "-${2:-TERM}" "$pid"
  until_true 10 is_over "$pid"
}
again() {  # again NAME
  local -n argv=ARGV_$1
  local i
  for i in "${!argv[@]}"; do  # a witness keeps the port that the policy names
    [ "${argv[$i]}" != 127.0.0.1:0 ] || argv[$i]=127.0.0.1:$(cat "$HOME_DIR/$1/port")
  done
  SOFTHSM2_CONF=$HOME_DIR/region/softhsm2.conf "${argv[@]}" >>"$HOME_DIR/logs/$1" 2>&1 </dev/null 9<&- &
  echo $! >"$HOME_DIR/pids/$1"
  disown
}
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
free_port() { while FREE=$((20000 + RANDOM % 12000)) && listens $FREE; do :; done; }

# ---- the house

if [ $KEEP = no ]; then
  timeout 100 ./hsm-config/quickstart --keep >"$WORK/quickstart" 2>&1 || { cat "$WORK/quickstart"; echo "FAIL  quickstart"; exit 1; }
  pass "one whole access with the real parts (quickstart)"
fi
RUN=$(readlink -f "$HOME_DIR/run")
SSHD_PORT=$(sed -n 's/^Port //p' "$RUN/sshd_config")
API_PORT=$(sed -n 's|^url = "https://127.0.0.1:\(.*\)"|\1|p' "$RUN/gate.toml")
