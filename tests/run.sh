#!/usr/bin/env bash
# Installs what the tests need and runs all of them. Arguments go to cargo test.
#
# From Debian: RabbitMQ, pika, Node.js, PHP and Ruby with their AMQP clients, Prometheus with promtool, Chromium (through sudo
# when not root; no service is started).
# Below target/interop: from npm and PyPI, other people's Web Push, the validators of the contract and a client
# for RabbitMQ, as pinned in tests/interop.
set -euo pipefail
cd "$(dirname "$0")/.."
source examples/debian.sh

interop=${CARGO_TARGET_DIR:-target}/interop

# Returns whether what was installed in the folder $2 is what the file $1 asks for.
is_current() { cmp -s "$1" "$2/${1##*/}"; }

install_node_packages() {
  if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    install_packages nodejs npm
  fi
  is_current tests/interop/package-lock.json "$interop/node_modules" && return
  echo "Installing what tests/interop names from npm in $interop/node_modules"
  mkdir -p "$interop"
  cp tests/interop/package.json tests/interop/package-lock.json "$interop"
  npm ci --prefix "$interop" --ignore-scripts --no-audit --no-fund --loglevel=error
  cp tests/interop/package-lock.json "$interop/node_modules"
}

install_python_packages() {
  local python=$interop/python
  is_current tests/interop/requirements.txt "$python" && return
  python3 -c 'import ensurepip' 2>/dev/null || install_packages python3-venv
  echo "Installing what tests/interop names from PyPI in $python"
  rm -rf "$python"
  python3 -m venv "$python"
  "$python/bin/pip" install --quiet --no-input --disable-pip-version-check --use-pep517 \
    --requirement tests/interop/requirements.txt
  cp tests/interop/requirements.txt "$python"
}

require_rust
require_rabbitmq
require_pika
command -v prometheus >/dev/null && command -v promtool >/dev/null || install_packages prometheus
php -r 'require "PhpAmqpLib/autoload.php";' 2>/dev/null || install_packages php-cli php-amqplib
ruby -e 'require "bunny"' 2>/dev/null || install_packages ruby ruby-bunny
[[ -x /usr/bin/chromium ]] || install_packages chromium
install_node_packages
install_python_packages
# Most tests wait, for a broker or a clock.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(( $(nproc) * 3 / 2 ))}
cargo test --locked "$@"
