//! The fuzz targets as one libFuzzer program; `FUZZ_TARGET` names the target.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

mod targets;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    let found = targets::ALL.iter().find(|(target, _)| *target == name);
    found.expect("no such target; see targets.rs").1
});

fuzz_target!(|data: &[u8]| TARGET(data));
