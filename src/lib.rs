//! pushrider, the Web Push sidecar for RabbitMQ: the map of the house.
//!
//! The library serves its own binary; nothing here is meant for other crates. What the daemon does
//! for its users is told in `README.md`, the messages it reads and writes in `examples/README.md`.
//!
//! # The way through
//!
//! ```text
//!  lane.*, due.*, undeliverable                                    results, delay.*, due.*, quarantine
//!  RabbitMQ ── Delivery ──▶ pipeline::process ── Settlement ──▶ broker::publisher ──▶ RabbitMQ
//!     ▲                       │                                     │ counts confirms
//!     │                       │ decode    wire::event               ▼
//!     │                       │ plan      plan               broker::acker ── ack ──▶ RabbitMQ
//!     │     per recipient:    │
//!     │                       │ admit     gate               no room: wait in the broker
//!     │                       │ sign      sender::keys       one token per (key, origin)
//!     │                       │ encrypt   ece
//!     │                       │ send      push_service       an Attempt, never an error
//!     │                       │ classify  classify           a Verdict
//!     └── copies that wait ◀──┘ decide    retry              an Outcome, or again later
//! ```
//!
//! Data goes one way. Rules decide and return values; only [`push_service`] sends, and only the
//! rooms of [`broker`] publish and acknowledge. [`pipeline`] is the hot path on one screen, and
//! [`outcome`] and [`classify`] say what can become of a recipient.
//!
//! # The rules of the house
//!
//! 1. [`pipeline::Pipeline::process`] cannot fail: what we owe the broker for a delivery is a value.
//!    The publisher pays it, then the acker acknowledges.
//! 2. An acknowledgement follows every confirm it depends on, and nothing else acknowledges. A
//!    refused publication is published again, with back-off, within the same generation.
//! 3. What must wait longer than about a second waits in the broker: otherwise one bad push service
//!    fills the prefetch window and starves the rest.
//! 4. Permits are held, not counted: a `Drop` frees them on success, panic and cancellation alike.
//! 5. Time and chance come in through the door ([`clock`]); `.clippy.toml` bans the clocks.
//! 6. Whatever a stranger can grow has a bound: origins, bodies, short strings, label values, waits.
//! 7. Modules import only leftward in the list below; `tests/repo/layering.rs` holds them to it.
//!
//! ```text
//! clock · secret · origin · subscription · message · outcome                          vocabulary
//! classify · retry · guard · ece · vapid · app · wire · plan                          rules
//! per_key · gate · redelivery · metrics · health                                      state
//! push_service · broker                                                               adapters
//! sender · pipeline · logging · admin · systemd · sandbox · daemon · config · cli     assembly
//! ```
//!
//! So nothing left of [`config`] sees a configuration type: each room defines the small settings it
//! needs, and `config::resolve` fills them. The sandbox shares no code with what it checks.
//!
//! # Where building taught otherwise
//!
//! * A summary is per *pass* of a chunk, not per chunk: recipients that must wait are settled later, in
//!   parts, and only sums over passes count each of them once ([`wire::summary`]).
//! * Only a recipient that can be pushed to takes its endpoint's turn, so a broken row does not keep
//!   the good row beside it from its message ([`plan::plan_recipient`]).
//! * The clients of [`push_service`] begin with HTTP/2 and learn otherwise from ALPN, before a byte of
//!   a request is sent: no request waits for another's answer to learn the version.
//! * Lanes have their turns at the gates too: queues of their own do not help an urgent event that
//!   stands behind a campaign for a permit ([`gate`]).
//! * How many messages are in hand does not bound how many recipients are: those of large events are
//!   taken up as there are slots for them in their lane ([`gate::Gates::slots`]).
//! * A 2xx whose body breaks off is taken: the service has the message.
//! * One refused token says nothing of the key: anybody can choose an endpoint, and some are not
//!   for VAPID at all. A key is doubted over several subscriptions ([`sender`]).
//! * A key that is taken for wrong is passed over rather than paused at the gate, so that a ring with
//!   a new key goes on serving the subscriptions of the old one ([`sender`]).
//! * The service manager is spoken to without a library: its socket is an argument, writes are
//!   bounded, and names in the abstract namespace work ([`systemd`]).
//!
//! # Whom we trust
//!
//! *Producers* may publish to the events exchange: they are trusted to name recipients, not to be
//! right. Bad input costs one message, and `x-pushrider-*` headers count only on queues that we
//! alone write to. *Endpoints* are chosen by browsers, hence by anyone: the guard decides which
//! scheme, host, port and address may be connected to, addresses at connect time; answers are read
//! up to 4 KiB under one deadline; redirects are not followed. *Push services* may say anything:
//! waits they ask for are capped, and only 410, a 404 that is confirmed, or as plain a word ends a
//! subscription. *Readers of logs and metrics* see no endpoint, key, token or payload: an endpoint
//! is a capability and appears as its fingerprint.

// vocabulary
pub mod clock;
pub mod message;
pub mod origin;
pub mod outcome;
pub mod secret;
pub mod subscription;
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
pub mod gate;
pub mod health;
pub mod metrics;
pub mod per_key;
pub mod redelivery;
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
pub mod sender;
pub mod systemd;
