//! Integration tests: a real RabbitMQ, the sandbox over real TLS and HTTP/2, the real binary.

#[cfg(test)]
mod cli_check;
#[cfg(test)]
mod cli_keys;
#[cfg(test)]
mod support;
