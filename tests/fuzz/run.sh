#!/usr/bin/env bash
# Fuzzes one target for a number of seconds: tests/fuzz/run.sh event 600
#
# Finds are written to tests/fuzz/finds/<target>. Mend the fault, then move the find to
# tests/fuzz/seeds/<target>: the ordinary tests replay every seed. The Rust toolchain of the tests is
# enough, with a C++ compiler.
set -euo pipefail
cd "$(dirname "$0")"

target=${1:?a target of targets.rs}
seconds=${2:-600}
command -v g++ >/dev/null || { echo "Install a C++ compiler first: apt-get install g++" >&2; exit 1; }

host=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-../../target/fuzz}
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
  -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
# With --target, build scripts and macros are not instrumented.
cargo build --release --target "$host"

mkdir -p "finds/$target" "$CARGO_TARGET_DIR/corpus/$target"
FUZZ_TARGET=$target "$CARGO_TARGET_DIR/$host/release/fuzz" \
  "$CARGO_TARGET_DIR/corpus/$target" "seeds/$target" \
  -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=16384 \
  -artifact_prefix="finds/$target/" -print_final_stats=1
