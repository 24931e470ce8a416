//! pushrider

// vocabulary
pub mod clock;
pub mod message;
pub mod origin;
pub mod outcome;
pub mod secret;
pub mod subscription;
// rules
pub mod classify;
pub mod ece;
pub mod guard;
pub mod plan;
pub mod retry;
pub mod retry_after;
pub mod vapid;
pub mod wire;
// state
pub mod gate;
pub mod health;
pub mod memory;
pub mod metrics;
pub mod tokens;
// adapters
pub mod broker;
pub mod push_service;
// assembly
pub mod admin;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod logging;
pub mod pipeline;
pub mod sandbox;
pub mod systemd;
