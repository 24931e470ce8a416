//! What a machine can keep of the house rules, without a network or a broker.

#[path = "repo/layering.rs"]
mod layering;
#[path = "repo/sources.rs"]
mod sources;
