//! Integration tests: a real RabbitMQ, the sandbox over real TLS and HTTP/2, the real binary.

#[cfg(test)]
mod admin;
#[cfg(test)]
mod applications;
#[cfg(test)]
mod broker_faults;
#[cfg(test)]
mod broker_flow;
#[cfg(test)]
mod broker_setup;
#[cfg(test)]
mod broker_silence;
#[cfg(test)]
mod browser;
#[cfg(test)]
mod cli_audit;
#[cfg(test)]
mod cli_check;
#[cfg(test)]
mod cli_keys;
#[cfg(test)]
mod cli_publish;
#[cfg(test)]
mod cli_quarantine;
#[cfg(test)]
mod cli_send;
#[cfg(test)]
mod cli_topology;
#[cfg(test)]
mod client_certificates;
#[cfg(test)]
mod clients;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod connecting;
#[cfg(test)]
mod control;
#[cfg(test)]
mod crashes;
#[cfg(test)]
mod daemons;
#[cfg(test)]
mod fanout;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod interop;
#[cfg(test)]
mod lanes;
#[cfg(test)]
mod large_events;
#[cfg(test)]
mod main_job;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod oauth2;
#[cfg(test)]
mod paced_campaign;
#[cfg(test)]
mod priority;
#[cfg(test)]
mod probes;
#[cfg(test)]
mod producers;
#[cfg(test)]
mod progress;
#[cfg(test)]
mod prometheus;
#[cfg(test)]
mod proxies;
#[cfg(test)]
mod quiet_hours;
#[cfg(test)]
mod readme;
#[cfg(test)]
mod redelivery;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod rotation;
#[cfg(test)]
mod sandbox_page;
#[cfg(test)]
mod services;
#[cfg(test)]
mod skew;
#[cfg(test)]
mod starvation;
#[cfg(test)]
mod support;
#[cfg(test)]
mod systemd;
#[cfg(test)]
mod traces;
#[cfg(test)]
mod unreadable;
#[cfg(test)]
mod waiting;
#[cfg(test)]
mod warnings;
