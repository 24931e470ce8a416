//! The shell functions of `examples`, run by themselves.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::thread;

use crate::sources::root;

/// Asks `answers_amqp` about a port while the caller's descriptor 3 is a file; returns what it
/// answers and what the file holds afterwards.
fn asked_about(port: u16) -> (bool, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let of_caller = directory.path().join("of_caller");
    File::create(&of_caller).unwrap();
    let script = r#"source examples/broker.sh; exec 3<>"$1"; answers_amqp "$2""#;
    let status = Command::new("bash")
        .current_dir(root())
        .args(["-c", script, "test"])
        .arg(&of_caller)
        .arg(port.to_string())
        .status()
        .unwrap();
    (status.success(), fs::read(&of_caller).unwrap())
}

#[test]
fn a_failed_connect_writes_nothing_to_the_callers_descriptors() {
    // No service can listen on port 0.
    assert_eq!(asked_about(0), (false, Vec::new()));
}

#[test]
fn a_node_is_greeted_on_a_descriptor_of_its_own() {
    let node = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = node.local_addr().unwrap().port();
    let greeted = thread::spawn(move || {
        let (mut client, _) = node.accept().unwrap();
        let mut greeting = [0; 8];
        client.read_exact(&mut greeting).unwrap();
        client.write_all(&[1]).unwrap();
        greeting
    });
    assert_eq!(asked_about(port), (true, Vec::new()));
    assert_eq!(&greeted.join().unwrap(), b"AMQP\0\0\x09\x01");
}
