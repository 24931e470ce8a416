//! Processes that end with this one, however it ends.
//!
//! The kernel kills a child when the *thread* that spawned it ends (`PR_SET_PDEATHSIG`), and libtest
//! gives each test a thread of its own. So one thread that never ends spawns them all: they die
//! with the process, be it by exit, panic or SIGKILL.

use std::net::TcpListener;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;

type Job = (Command, Sender<Child>);

/// Spawns a process that ends with this one, from the start of its command line.
pub(super) fn spawn(program: &[String], setup: impl FnOnce(&mut Command)) -> Child {
    static SPAWNER: OnceLock<Sender<Job>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, todo) = channel::<Job>();
        thread::spawn(move || {
            for (mut command, reply) in todo {
                let child = command.spawn().expect("setpriv (util-linux) is installed");
                reply.send(child).expect("the test waits for its child");
            }
        });
        jobs
    });
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).args(program);
    setup(&mut command);
    let (reply, spawned) = channel();
    spawner
        .send((command, reply))
        .expect("the spawner never ends");
    spawned.recv().expect("the spawner answers")
}

/// Sends a signal, by its name.
pub(super) fn signal(child: &Child, name: &str) {
    let line = format!("kill -{name} {}", child.id());
    let status = Command::new("sh").args(["-c", &line]).status().unwrap();
    assert!(status.success(), "{line}");
}

/// Finds ports nobody listens on.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}
