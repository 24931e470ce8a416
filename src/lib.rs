//! pushrider, the Web Push sidecar for RabbitMQ: its architecture.
//!
//! The library serves its own binary; nothing here is meant for other crates. `README.md` describes what
//! the daemon does for its users, and `examples/README.md` the messages that it reads and writes.
//!
//! # The way of a message
//!
//! ```text
//!  lane.*, due.*, undeliverable                                    results, delay.*, due.*, quarantine
//!  RabbitMQ ── Inbound ───▶ pipeline::process ─── Settled ───▶ broker::publisher ──▶ RabbitMQ
//!     ▲                       │                                     │ counts confirms
//!     │                       │ decode    wire::event               ▼
//!     │                       │ plan      plan               broker::acker ── ack ──▶ RabbitMQ
//!     │     per recipient:    │
//!     │     sender::send      │ admit     gate               no permit: wait in the broker
//!     │                       │ sign      sender::keys       one token per (key, origin)
//!     │                       │ encrypt   ece
//!     │                       │ send      push_service       an Attempt, never an error
//!     │                       │ classify  classify           a Verdict
//!     └── copies that wait ◀──┘ decide    sender::decision   an Outcome, or a Wait
//! ```
//!
//! Data goes one way. Rules decide and return values. Only [`push_service`] sends, and only the modules of
//! [`broker`] publish and acknowledge. [`pipeline`] settles a delivery, [`sender`] sends to one recipient,
//! and [`outcome`] and [`classify`] define what can become of it.
//!
//! # Design rules
//!
//! 1. [`pipeline::Pipeline::process`] cannot fail: the publications that settle a delivery are a value.
//!    The publisher publishes them, then the acker acknowledges the delivery.
//! 2. An acknowledgement follows every confirm that it depends on, and nothing else acknowledges. A
//!    refused publication is published again, with back-off, within the same generation.
//! 3. What must wait longer than about a second waits in the broker: otherwise one bad push service
//!    fills the prefetch window and starves the others.
//! 4. Permits are held, not counted: a `Drop` frees them on success, panic and cancellation alike.
//! 5. Time and randomness are arguments ([`clock`]); `.clippy.toml` forbids the clocks elsewhere.
//! 6. Whatever an outsider can grow has a bound: origins, bodies, short strings, label values, waits.
//! 7. A module imports only modules to its left in the list below, and files do not import each other in
//!    circles; `tests/repo/layering.rs` checks both.
//!
//! ```text
//! backoff · clock · secret · origin · subscription · message · delivery_hours · outcome  vocabulary
//! classify · retry · guard · ece · vapid · app · wire · plan                                 rules
//! keyed_semaphore · gate · redelivery · control · metrics · health · spans                state
//! push_service · broker                                                                  adapters
//! sender · pipeline · logging · admin · systemd · sandbox · daemon · config · cli        assembly
//! ```
//!
//! Nothing to the left of [`config`] sees a configuration type: each module defines the small settings
//! that it needs, and `config::resolve` fills them. The decryption, the VAPID verification and the header
//! parsing of [`sandbox`] share no code with what they check; endpoints, origins, the clock and base64 are
//! shared.
//!
//! # Design decisions that are not obvious
//!
//! * A summary is per *pass* of a chunk, not per chunk. Recipients that must wait are settled later, in
//!   parts, and only sums over passes count each recipient once ([`wire::summary`]).
//! * Of several rows with one endpoint and one payload in an event, the first that can be pushed to gets
//!   the message, so a broken row does not keep the message from the good row beside it
//!   ([`plan::plan_recipient`]).
//! * Recipients with the same delivery hours are in the same chunks, and those of a chunk wait together. Whose
//!   hours begin later waits again: one copy each would be many times the event ([`plan::quiet_hours`]).
//! * Progress counts what is new, not what there is. No daemon need know of the others, or keep what it has
//!   reported ([`wire::progress`]).
//! * The clients of [`push_service`] begin with HTTP/2, and ALPN corrects them before a byte of a request
//!   is sent. No request waits for another's answer to learn the version.
//! * Lanes take turns at the gates too. Separate queues do not help an urgent event that waits behind a
//!   campaign for a permit ([`gate`]).
//! * The number of messages in hand does not bound the number of recipients. The recipients of large
//!   events are decoded as their lane has slots for them ([`gate::Gates::slots`]).
//! * A 2xx whose body breaks off is accepted: the service has the message.
//! * One refused token says nothing of the key: anybody can choose an endpoint, and some endpoints are
//!   not made for VAPID at all. A key is suspended only after several subscriptions ([`sender`]).
//! * A suspended key is skipped rather than paused at the gate, so that a ring with a new key goes on
//!   serving the subscriptions of the old one ([`sender`]).
//! * [`systemd`] speaks to the service manager without a library: its socket is an argument, writes are
//!   bounded, and names in the abstract namespace work.
//!
//! # Trust
//!
//! *Producers* may publish to the events exchange. They are trusted to name recipients, not to be right:
//! bad input costs one message, and `x-pushrider-*` headers count only on queues that only this daemon
//! writes to. *Endpoints* are chosen by browsers, hence by anyone: the guard decides which scheme, host,
//! port and address may be connected to, and checks addresses at connect time (a proxy must do that
//! itself). At most 4 KiB of an answer are read, under one deadline, and redirects are not followed. *Push services* may answer anything: the
//! waits that they ask for are capped, and only 410, a confirmed 404, or an equally plain answer ends a
//! subscription. *Readers of logs and metrics* see no endpoint, key, token or payload: an endpoint is a
//! capability and appears as its fingerprint.

// vocabulary
mod backoff;
pub mod clock;
pub mod delivery_hours;
pub mod message;
pub mod origin;
pub mod outcome;
pub mod secret;
pub mod subscription;
mod words;
// rules
pub mod app;
pub mod classify;
pub mod ece;
pub mod guard;
pub mod plan;
pub mod retry;
pub mod vapid;
pub mod wire;
// state
pub mod control;
pub mod gate;
pub mod health;
mod keyed_semaphore;
pub mod metrics;
mod redelivery;
pub mod spans;
// adapters
pub mod broker;
pub mod push_service;
// assembly
mod admin;
pub mod cli;
pub mod config;
mod daemon;
mod logging;
pub mod pipeline;
pub mod sandbox;
pub mod sender;
mod systemd;
