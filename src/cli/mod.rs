//! To be written.

pub mod sandbox;
