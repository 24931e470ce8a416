//! The `pushrider` program: parse, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use pushrider::cli::Cli;
use pushrider::config::Environment;

// Measured: a tenth to a sixth less CPU for a push than with the system's allocator.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    Cli::parse().execute(&Environment::of_process())
}
