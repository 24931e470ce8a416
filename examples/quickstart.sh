#!/usr/bin/env bash
# The whole way on one machine: a private RabbitMQ, a local push service, pushrider between them; three
# events in, what became of them out. Leaves the build and the installed packages, nothing else.
#
# AMQP_URL=amqp://… uses that broker, with names of its own that are deleted at the end.
# PUSHRIDER=/usr/bin/pushrider uses that program and builds none.
set -euo pipefail
cd "$(dirname "$0")/.."
source examples/debian.sh
source examples/broker.sh

directory=
daemon_pid=
sandbox_pid=
consumer_pid=
broker_pid=
foreign_broker=${AMQP_URL:+yes}

step() { printf '\n== %s\n' "$*"; }

fail() { printf 'quickstart: %s\n' "$*" >&2; exit 1; }

cleanup() {
  local status=$?
  trap '' INT TERM HUP
  if (( status != 0 )) && [[ -n $directory ]]; then
    for log in "$directory"/*.log; do
      [[ ! -s $log ]] || { echo "-- ${log##*/}"; tail -n 20 "$log"; } >&2
    done
  fi
  for pid in $consumer_pid $daemon_pid $sandbox_pid; do
    stop_process "$pid" 30
  done
  [[ -z $foreign_broker || -z ${WEBPUSH_PREFIX-} ]] || delete_names || status=1
  stop_broker
  [[ -z $directory ]] || rm -rf "$directory" || status=1
  exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Deletes from somebody's broker what the daemon declared there.
delete_names() {
  "$pushrider" topology show --config "$directory/pushrider.toml" --format definitions \
    >"$directory/definitions.json"
  "$PYTHON" - "$directory/definitions.json" <<'PYTHON'
import json, os, pika, sys
with open(sys.argv[1]) as file:
    definitions = json.load(file)
channel = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"])).channel()
for queue in definitions["queues"]:
    channel.queue_delete(queue["name"])
for exchange in definitions["exchanges"]:
    channel.exchange_delete(exchange["name"])
PYTHON
}

# http METHOD URL [BODY]: prints the body of the answer.
http() {
  "$PYTHON" - "$@" <<'PYTHON'
import sys, urllib.request
method, url, *body = sys.argv[1:]
data = body[0].encode() if body else None
request = urllib.request.Request(url, data, method=method)
directly = urllib.request.build_opener(urllib.request.ProxyHandler({}))
sys.stdout.write(directly.open(request, timeout=5).read().decode())
PYTHON
}

# wait_for PID WHAT COMMAND...: until the command succeeds, while the process lives, at most 30 s.
wait_for() {
  local pid=$1 what=$2 tries
  shift 2
  for (( tries = 0; tries < 120; tries++ )); do
    "$@" >/dev/null 2>&1 && return
    kill -0 "$pid" 2>/dev/null || fail "the process that should be $what has ended"
    sleep 0.25
  done
  fail "still not $what after 30 s"
}

step "What is needed"
[[ -n $foreign_broker ]] || require_rabbitmq
require_pika
echo "RabbitMQ and Python with pika are there."

pushrider=${PUSHRIDER-}
if [[ -z $pushrider ]]; then
  step "Building pushrider (some minutes the first time)"
  require_rust
  # As tests/run.sh does, which need not build most of it again.
  cargo build --locked
  pushrider=${CARGO_TARGET_DIR:-target}/debug/pushrider
fi

directory=$(mktemp -d)
read -r push_port control_port admin_port < <(free_ports 3)
control=http://127.0.0.1:$control_port

if [[ -z $foreign_broker ]]; then
  step "Starting a private RabbitMQ"
  start_broker "$directory/broker"
fi

step "Starting the sandbox: a push service and its browsers, on this machine"
"$pushrider" sandbox --listen "127.0.0.1:$push_port" --control "127.0.0.1:$control_port" \
  --state "$directory/sandbox" >"$directory/sandbox.log" 2>&1 </dev/null &
sandbox_pid=$!
wait_for "$sandbox_pid" "the sandbox" http GET "$control/messages"

step "Making a VAPID key and a configuration"
"$pushrider" keys generate --out "$directory/vapid.pem"
export WEBPUSH_PREFIX=quickstart-$$
cat >"$directory/pushrider.toml" <<TOML
[broker]                        # its URL comes from AMQP_URL
prefix = "$WEBPUSH_PREFIX"

[apps.shop]
subject = "mailto:push@example.net"
primary = "2026"

[keys.2026]
private_key_file = "vapid.pem"

[push]
ca_file = "sandbox/ca.pem"      # the sandbox has a certificate authority of its own

[guard]                         # nothing on this machine is pushed to unless it is allowed
allow = ["127.0.0.1/32"]
ports = [$push_port]

[admin]
listen = "127.0.0.1:$admin_port"
TOML
cat "$directory/pushrider.toml"

step "Starting pushrider"
"$pushrider" run --config "$directory/pushrider.toml" >"$directory/pushrider.log" 2>&1 </dev/null &
daemon_pid=$!
wait_for "$daemon_pid" "ready to push" http GET "http://127.0.0.1:$admin_port/readyz"

step "Two browsers subscribe; the second one's user then says no to notifications"
fine=$(http POST "$control/subscriptions")
gone=$(http POST "$control/subscriptions")
[[ $gone =~ \"id\":\ *\"([^\"]+)\" ]] || fail "the sandbox made no subscription: $gone"
http PUT "$control/subscriptions/${BASH_REMATCH[1]}/answer" '{"status": 410}'
printf '%s\n' "$fine" "$gone"

step "Publishing three events (examples/publish.py): one fine, one whose subscription is gone, one malformed"
"$PYTHON" examples/consume.py 4 >"$directory/results" 2>"$directory/consume.log" </dev/null &
consumer_pid=$!
wait_for "$consumer_pid" "listening for results" grep -q listening "$directory/results"
"$PYTHON" examples/publish.py shop.default <<EVENTS
{"id": "order-1", "subscription": $fine, "payload": "Your order has left the warehouse", "urgency": "high"}
{"id": "order-2", "subscription": $gone, "payload": "Your order is late"}
{"id": "order-3", "subscription": $fine, "payload": "Your order is here", "tll": 60}
EVENTS
wait "$consumer_pid" || fail "not everything came back"
consumer_pid=

step "What the browsers decrypted"
http GET "$control/messages" | "$PYTHON" -c '
import json, sys
for message in json.load(sys.stdin):
    print("{subscription}: {text!r}, answered with {status}".format(**message))
'

step "What came back (examples/consume.py)"
grep -v '^listening$' "$directory/results"
for key in delivery.shop.accepted delivery.shop.gone subscription.shop.gone 'delivery.[a-z_]*.rejected'; do
  grep -q "^$key" "$directory/results" || fail "nothing came back under $key"
done

step "Stopping"
stop_process "$daemon_pid" 30
daemon_pid=
echo "All three events have their outcome."
