//! Integration tests: a real RabbitMQ, the sandbox over real TLS and HTTP/2, the real binary.

mod support;
