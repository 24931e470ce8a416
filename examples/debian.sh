# Installs Debian packages that are missing; to be sourced.

as_root() {
  if (( EUID == 0 )); then "$@"; else sudo "$@"; fi
}

# install_packages PACKAGE...: installs them with apt, without starting any service of theirs.
install_packages() {
  if ! command -v apt-get >/dev/null; then
    echo "This is not Debian: please install what Debian calls $*, then start again." >&2
    return 1
  fi
  echo "Installing with apt-get$( (( EUID == 0 )) || echo ' (through sudo)'): $*"
  (
    # policy-rc.d keeps packages from starting services (exit status 101: forbidden).
    policy=/usr/sbin/policy-rc.d
    trap 'exit 130' INT TERM HUP
    trap 'as_root rm -f "$policy"; [[ ! -e $policy.before ]] || as_root mv "$policy.before" "$policy"' EXIT
    [[ ! -e $policy ]] || as_root mv "$policy" "$policy.before"
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y -qq --no-install-recommends "$@" >/dev/null
  )
}

# require_rabbitmq: RabbitMQ's programs are there; no broker of the system's is started, now or at boot.
require_rabbitmq() {
  [[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ]] && return
  install_packages rabbitmq-server
  if command -v systemctl >/dev/null; then
    for unit in rabbitmq-server.service epmd.socket epmd.service; do
      # Not every release has every unit.
      as_root systemctl disable --quiet "$unit" 2>/dev/null || true
    done
  fi
}

# require_pika: sets PYTHON to an interpreter that has pika.
require_pika() {
  for PYTHON in python3 /usr/bin/python3; do
    "$PYTHON" -c 'import pika' 2>/dev/null && return
  done
  install_packages python3-pika
  "$PYTHON" -c 'import pika'
}

# require_rust: cargo and a linker.
require_rust() {
  command -v cargo >/dev/null || PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
  if ! command -v cargo >/dev/null; then
    echo "There is no cargo: please install a Rust toolchain (https://rustup.rs), then start again." >&2
    return 1
  fi
  command -v cc >/dev/null || install_packages gcc libc6-dev
}
