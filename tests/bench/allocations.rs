//! How often one push allocates memory, and how much: everything but the network.
//!
//! `cargo bench --bench allocations`
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench stops where it cannot be set up, and prints what it measured"
)]

mod no_network;

use no_network::{inbound, pipeline};

/// So many events are processed before those that are counted, and counted.
const WARM_UP: usize = 100;
const EVENTS: usize = 1000;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let pipeline = pipeline();
    println!("recipients  allocations/push  bytes/push");
    for recipients in [1, 50] {
        let inbound = inbound(recipients);
        let process = |events: usize| {
            for _ in 0..events {
                runtime.block_on(pipeline.process(&inbound));
            }
        };
        process(WARM_UP);
        let counted = allocation_counter::measure(|| process(EVENTS));
        let per_push = |total: u64| total as f64 / (EVENTS * recipients) as f64;
        println!(
            "{recipients:>10}  {:>16.1}  {:>10.0}",
            per_push(counted.count_total),
            per_push(counted.bytes_total)
        );
    }
}
