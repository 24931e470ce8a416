#!/usr/bin/env bash
# Validates the container files and the Kubernetes manifests as far as that goes without a container engine
# or a cluster: schemas, a linter, and the daemon itself for its configuration and the health check.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null
source examples/debian.sh
require_rust

tools=${CARGO_TARGET_DIR:-$PWD/target}/manifests
program=${CARGO_TARGET_DIR:-target}/debug/pushrider
mkdir -p "$tools"
if [[ ! -e $tools/complete ]]; then
  echo "Installing validators from PyPI and npm in $tools"
  python3 -m venv "$tools/python"
  "$tools/python/bin/pip" install --quiet --no-input --disable-pip-version-check \
    kubernetes-validate==1.37.0 compose-spec==0.2.1 PyYAML==6.0.3
  npm install --prefix "$tools" --ignore-scripts --no-audit --no-fund --loglevel=error \
    @kubernetes-models/keda@2.0.0 dockerfile-utils@0.16.3
  touch "$tools/complete"
fi
cargo build --quiet --locked
work=$(mktemp -d)
daemon=
trap '[[ -z $daemon ]] || kill "$daemon"; rm -rf "$work"' EXIT

echo "== compose.yaml, keda.yaml, Containerfile"
NODE_PATH=$tools/node_modules "$tools/python/bin/python" tests/interop/manifests.py "$work"

echo "== Kubernetes"
"$tools/python/bin/kubernetes-validate" --strict systemd/kubernetes/{deployment,sidecar}.yaml

echo "== configuration"
mkdir "$work/secrets"
"$program" keys generate --out "$work/secrets/vapid.pem" >/dev/null
(umask 077 && echo 'amqp://127.0.0.1:1' >"$work/secrets/amqp-url")
for file in "$work/kubernetes.toml" systemd/container/pushrider.toml; do
  sed -E "s#/run/secrets(/pushrider)?/#$work/secrets/#" "$file" >"$work/pushrider.toml"
  "$program" check --config "$work/pushrider.toml"
done

echo "== health check"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
check=$(sed -n 's/^    CMD //p' systemd/container/Containerfile | sed "s/9464/$port/")
is_healthy() { python3 -c 'import json, subprocess, sys; sys.exit(subprocess.run(json.loads(sys.argv[1]), stderr=subprocess.DEVNULL).returncode)' "$check"; }
! is_healthy || { echo "The health check is good without a daemon." >&2; exit 1; }
PUSHRIDER_ADMIN__LISTEN=127.0.0.1:$port "$program" run --config "$work/pushrider.toml" 2>"$work/log" &
daemon=$!
for (( attempt = 0; attempt < 100; attempt++ )); do
  if is_healthy; then
    echo "== all good"
    exit
  fi
  sleep 0.1
done
cat "$work/log" >&2
exit 1
