#!/usr/bin/env bash
# Runs the integration tests on RabbitMQ 4, as Debian 13 packages it. Arguments go to the tests.
#
# Debian 12 has RabbitMQ 3.10, on which tests/run.sh runs them. This fetches a small Debian 13 into
# target/rabbitmq-4, once, and runs its broker in there. Only root may do that; nothing outside of
# the folder is changed, and what is mounted in it is gone with this process.
set -euo pipefail
cd "$(dirname "$0")/.."
source examples/debian.sh

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
root=$target/rabbitmq-4

if (( EUID != 0 )); then
  echo "A Debian inside of this one takes root." >&2
  exit 1
fi

# Where this Debian comes from.
mirror() {
  apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1
}

fetch_debian() {
  command -v debootstrap >/dev/null || install_packages debootstrap
  rm -rf "$root"
  echo "Fetching Debian 13 with RabbitMQ 4 into $root"
  debootstrap --variant=minbase --include=rabbitmq-server trixie "$root" "$(mirror)" \
    >"$root.log" || {
    tail -n 5 "$root.log" >&2
    return 1
  }
  touch "$root/complete"
}

# In a mount namespace of its own, where the broker finds what the tests write for it.
if [[ ${1-} != --inside ]]; then
  require_rust
  [[ -e $root/complete ]] || fetch_debian
  mkdir -p "$root/proc" "$root/dev" "$root$target/tmp" "$target/tmp"
  exec unshare --mount --propagation private tests/rabbitmq-4.sh --inside "$@"
fi
shift
mount --rbind /dev "$root/dev"
mount --bind /proc "$root/proc"
mount --bind "$target/tmp" "$root$target/tmp"
export TEST_RABBITMQ_ROOT=$root TMPDIR=$target/tmp
cargo test --locked --test it -- "$@"
