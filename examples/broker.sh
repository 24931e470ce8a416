# A private RabbitMQ node that touches nothing of the system's; to be sourced.

# free_ports COUNT: prints so many TCP ports of 127.0.0.1 that nobody uses.
free_ports() {
  python3 - "$1" <<'PYTHON'
import socket, sys
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(s.getsockname()[1] for s in sockets))
PYTHON
}

# start_broker DIRECTORY: starts a node that keeps everything below DIRECTORY, waits until it answers
# and exports AMQP_URL.
start_broker() {
  local node=$1 port distribution_port tries
  read -r port distribution_port broker_epmd_port < <(free_ports 3)
  mkdir -p "$node"/{home,mnesia,log,tmp}
  cat >"$node/rabbitmq.conf" <<CONF
listeners.tcp.1 = 127.0.0.1:$port
log.console = false
vm_memory_high_watermark.absolute = 1GiB
disk_free_limit.absolute = 200MB
CONF
  echo '[].' >"$node/enabled_plugins"
  (
    cd "$node" || exit
    export HOME=$node/home TMPDIR=$node/tmp # HOME is where the Erlang cookie is
    export RABBITMQ_NODENAME=pushrider@localhost
    export RABBITMQ_NODE_PORT=$port RABBITMQ_NODE_IP_ADDRESS=127.0.0.1
    export RABBITMQ_DIST_PORT=$distribution_port
    export ERL_EPMD_PORT=$broker_epmd_port ERL_EPMD_ADDRESS=127.0.0.1
    export RABBITMQ_MNESIA_BASE=$node/mnesia RABBITMQ_LOG_BASE=$node/log
    export RABBITMQ_LOGS=$node/log/rabbit.log
    export RABBITMQ_CONFIG_FILE=$node/rabbitmq.conf
    export RABBITMQ_ENABLED_PLUGINS_FILE=$node/enabled_plugins
    export RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_PID_FILE=$node/rabbit.pid
    export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1} +sbwt none"
    # With this, the node replaces the shell that starts it, so that its pid is ours.
    export RABBITMQ_ALLOW_INPUT=1
    exec setsid /usr/lib/rabbitmq/bin/rabbitmq-server -noinput
  ) >"$node/log/console.log" 2>&1 </dev/null &
  broker_pid=$!
  for (( tries = 0; tries < 240; tries++ )); do
    kill -0 "$broker_pid" 2>/dev/null || break
    if answers_amqp "$port"; then
      export AMQP_URL=amqp://guest:guest@127.0.0.1:$port
      return
    fi
    sleep 0.25
  done
  echo "RabbitMQ does not start:" >&2
  tail -n 20 "$node"/log/*.log >&2
  return 1
}

# answers_amqp PORT: Returns whether a node answers the AMQP greeting with a method frame; one that is
# still starting only takes the connection.
answers_amqp() {
  local node type
  (
    # A failed exec does not end the subshell by itself, and any fixed descriptor may be the caller's.
    exec {node}<>"/dev/tcp/127.0.0.1/$1" || exit
    printf 'AMQP\0\0\11\1' >&"$node"
    IFS= read -r -t 2 -n 1 type <&"$node"
    [[ $type == $'\1' ]]
  ) 2>/dev/null
}

# stop_broker: stops the node and the epmd it has left behind; files stay.
stop_broker() {
  [[ -n ${broker_pid-} ]] || return 0
  # One that is still starting may not listen; nothing of a private node needs to be saved.
  stop_process "$broker_pid" 8
  kill -KILL -- "-$broker_pid" 2>/dev/null || true
  epmd -port "$broker_epmd_port" -kill >/dev/null 2>&1 || true
  broker_pid=
}

# stop_process PID SECONDS: asks a child to stop, insists after so long, and waits for its end.
stop_process() {
  local tries
  kill -TERM "$1" 2>/dev/null || return 0
  for (( tries = 0; tries < 4 * $2; tries++ )); do
    kill -0 "$1" 2>/dev/null || break
    sleep 0.25
  done
  kill -KILL "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
}
