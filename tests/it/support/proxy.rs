//! A proxy between a client and a server that can be cut, frozen, slowed and listened to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Which way bytes flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// A TCP proxy on loopback; it ends with the value.
pub(crate) struct TcpProxy {
    port: u16,
    state: watch::Sender<State>,
    counts: Arc<[AtomicU64; 2]>,
    _tasks: JoinSet<()>,
}

#[derive(Clone, Debug, Default)]
struct State {
    /// How often it was cut.
    cuts: u64,
    refusing: bool,
    frozen: [bool; 2],
    delay: Duration,
    /// Bytes that end the connection on which the server sends them.
    cut_at: Option<Vec<u8>>,
    /// The class and the method of an AMQP frame from the server that is lost.
    lose: Arc<Mutex<Option<[u8; 2]>>>,
}

impl TcpProxy {
    /// Lays a proxy to a port on loopback.
    pub(crate) async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (state, watched) = watch::channel(State::default());
        let counts: Arc<[AtomicU64; 2]> = Arc::default();
        let mut tasks = JoinSet::new();
        let counted = Arc::clone(&counts);
        tasks.spawn(async move {
            let mut lines = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                if !watched.borrow().refusing {
                    lines.spawn(line(client, server, watched.clone(), Arc::clone(&counted)));
                }
            }
        });
        Self {
            port,
            state,
            counts,
            _tasks: tasks,
        }
    }

    /// The port of its client end.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Cuts every connection; new ones can be made.
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Closes every new connection at once, or no longer.
    pub(crate) fn refuse(&self, refusing: bool) {
        self.state.send_modify(|state| state.refusing = refusing);
    }

    /// Holds what flows one way, or lets it go on.
    pub(crate) fn freeze(&self, way: Way, frozen: bool) {
        self.state
            .send_modify(|state| state.frozen[way as usize] = frozen);
    }

    /// Delays what flows, both ways.
    pub(crate) fn delay(&self, delay: Duration) {
        self.state.send_modify(|state| state.delay = delay);
    }

    /// Cuts each connection on which the server sends these bytes, before they arrive.
    pub(crate) fn cut_at(&self, bytes: &[u8]) {
        self.state
            .send_modify(|state| state.cut_at = Some(bytes.to_vec()));
    }

    /// Loses one AMQP method of the server's, and nothing else.
    pub(crate) fn lose(&self, class: u8, method: u8) {
        *self.state.borrow().lose.lock().unwrap() = Some([class, method]);
    }

    /// Returns whether the method was sent, and lost.
    pub(crate) fn has_lost(&self) -> bool {
        self.state.borrow().lose.lock().unwrap().is_none()
    }

    /// Counts the bytes that flowed one way.
    pub(crate) fn bytes(&self, way: Way) -> u64 {
        self.counts[way as usize].load(Ordering::Relaxed)
    }
}

async fn line(
    client: TcpStream,
    server: u16,
    mut state: watch::Receiver<State>,
    counts: Arc<[AtomicU64; 2]>,
) {
    let cuts = state.borrow_and_update().cuts;
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else {
        return;
    };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let watched = state.clone();
    select! {
        _ = state.wait_for(|state| state.cuts > cuts) => {}
        () = carry(from_client, to_server, Way::Up, watched.clone(), &counts) => {}
        () = carry(from_server, to_client, Way::Down, watched, &counts) => {}
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    way: Way,
    mut state: watch::Receiver<State>,
    counts: &[AtomicU64; 2],
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let flows = state.wait_for(|state| !state.frozen[way as usize]).await;
        let Ok(state) = flows.map(|state| state.clone()) else {
            return;
        };
        let State {
            delay,
            cut_at,
            lose,
            ..
        } = state;
        if !delay.is_zero() {
            sleep(delay).await;
        }
        let mut bytes = buffer[..count].to_vec();
        let contain = |these: Vec<u8>| bytes.windows(these.len()).any(|it| it == these);
        if way == Way::Down && cut_at.is_some_and(contain) {
            return;
        }
        if way == Way::Down {
            remove_method(&mut bytes, &mut lose.lock().unwrap());
        }
        if to.write_all(&bytes).await.is_err() {
            return;
        }
        counts[way as usize].fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// Removes the first frame of an AMQP method, and forgets the method with it.
fn remove_method(bytes: &mut Vec<u8>, lose: &mut Option<[u8; 2]>) {
    let Some([class, method]) = *lose else {
        return;
    };
    let begins = |frame: &[u8]| frame[0] == 1 && frame[7..] == [0, class, 0, method];
    let Some(start) = bytes.windows(11).position(begins) else {
        return;
    };
    let size = u32::from_be_bytes(bytes[start + 3..start + 7].try_into().unwrap());
    bytes.drain(start..start + 8 + size as usize);
    *lose = None;
}
