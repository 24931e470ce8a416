//! What a machine can keep of the environment rules, without a network or a broker.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read its input should fail"
)]

#[path = "repo/circles.rs"]
mod circles;
#[path = "repo/citations.rs"]
mod citations;
#[path = "repo/config.rs"]
mod config;
#[path = "repo/contract.rs"]
mod contract;
#[path = "repo/control.rs"]
mod control;
#[path = "repo/layering.rs"]
mod layering;
#[path = "repo/notification.rs"]
mod notification;
#[path = "repo/promtool.rs"]
mod promtool;
#[path = "repo/readme.rs"]
mod readme;
#[path = "repo/reference.rs"]
mod reference;
#[path = "repo/shell.rs"]
mod shell;
#[path = "repo/sources.rs"]
mod sources;
