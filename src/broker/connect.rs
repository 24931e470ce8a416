//! One connection to the broker.
//!
//! What can go wrong here: a peer that accepts TCP and then stays silent would hold lapin's thread
//! and socket for ever, because lapin has no time-out of its own. A [`Link`] therefore keeps a
//! duplicate of the socket and shuts it down when its time is over, which ends that thread. An
//! `amqps` URL must never end up in plain text, an IPv6 literal must not become `localhost`, and
//! lapin prints the password in `Debug`, so nothing here has one that shows the URL.

use std::fmt;
use std::io;
use std::net::{self, Shutdown};
use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use lapin::types::ShortString;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{AsyncTcpStream, Channel, Connection, ConnectionProperties};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_util::either::Either;

use crate::broker::amqp_url;
use crate::broker::answer::answered;
use crate::broker::budget::Budget;
use crate::broker::connect_error::{Cause, ConnectError, Target};
use crate::broker::error::SessionError;
use crate::broker::frames::Found;
use crate::broker::runtime::{self, Filtered};
use crate::broker::tls::Tls;
use crate::broker::{NeedsOperator, Settings};
use crate::metrics::Role;
use crate::secret::Secret;

/// The largest frame of a connection, in bytes: lapin keeps two buffers of 32 frames for each, which
/// take no memory until they are used if their size is known before the connection is made.
///
/// Headers come in one frame. A connection that consumes needs what the broker allows producers,
/// which is RabbitMQ's default; what is published here itself has small headers.
const CONSUME_FRAME_MAX: u32 = 128 * 1024;
const PUBLISH_FRAME_MAX: u32 = 32 * 1024;

/// How long a connection may take to close in good order.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Where the broker is and how to get in; shows host and port only.
pub(super) struct Address {
    uri: AMQPUri,
    tls: Tls,
    timeout: Duration,
}

impl Address {
    /// Completes a URL and reads the certificates.
    pub(super) fn new(mut uri: AMQPUri, settings: &Settings) -> Result<Self, NeedsOperator> {
        let heartbeat = u16::try_from(settings.heartbeat.as_secs()).unwrap_or(u16::MAX);
        uri.query.heartbeat.get_or_insert(heartbeat.max(1));
        Ok(Self {
            uri,
            tls: Tls::new(settings)?,
            timeout: settings.connect_timeout,
        })
    }

    /// Returns the password, if it alone is another than that of `former`.
    pub(super) fn changed_password(&self, former: &Self) -> Option<Secret<String>> {
        let mut uri = former.uri.clone();
        let password = &self.uri.authority.userinfo.password;
        uri.authority.userinfo.password.clone_from(password);
        let is_other = former.uri.authority.userinfo.password != *password;
        (is_other && uri == self.uri).then(|| Secret::new(password.clone()))
    }

    /// Connects, in bounded time.
    pub(super) async fn connect(&self, role: Role) -> Result<Link, Box<ConnectError>> {
        self.connect_within(role, Budget::new(u64::MAX)).await
    }

    /// Connects to consume a queue, of whose messages so many bytes may be in hand.
    pub(super) async fn connect_to_consume(&self, bytes: u64) -> Result<Link, Box<ConnectError>> {
        self.connect_within(Role::Consume, Budget::new(bytes)).await
    }

    async fn connect_within(&self, role: Role, budget: Budget) -> Result<Link, Box<ConnectError>> {
        let socket = Arc::new(Socket::default());
        let found = Arc::new(Found::default());
        let budget = Arc::new(budget);
        let filter = (Arc::clone(&found), Arc::clone(&budget));
        let opening = self.open(role, Arc::downgrade(&socket), filter);
        let cause = match timeout(self.timeout, opening).await {
            Ok(Ok(connection)) => {
                return Ok(Link {
                    connection,
                    found,
                    budget,
                    _socket: socket,
                });
            }
            Ok(Err(error)) => Cause::new(error, found.foreign()),
            Err(_elapsed) => match found.foreign() {
                Some(protocol) => Cause::Foreign(protocol),
                None => self.silent(&socket),
            },
        };
        let target = Target::new(&self.uri, self.tls.has_client_certificate());
        Err(Box::new(ConnectError { target, cause }))
    }

    fn silent(&self, socket: &Socket) -> Cause {
        Cause::Silent {
            is_connected: socket.0.get().is_some(),
            within: self.timeout,
        }
    }

    fn uri_of(&self, role: Role) -> AMQPUri {
        let mut uri = self.uri.clone();
        uri.query.frame_max.get_or_insert(match role {
            Role::Consume => CONSUME_FRAME_MAX,
            Role::Publish => PUBLISH_FRAME_MAX,
        });
        uri
    }

    async fn open(
        &self,
        role: Role,
        socket: Weak<Socket>,
        (found, budget): (Arc<Found>, Arc<Budget>),
    ) -> lapin::Result<Connection> {
        let options = properties(role);
        let (limit, tls) = (self.timeout, self.tls.clone());
        let connect = async move |uri: AMQPUri, _runtime| {
            let opening = async {
                let stream = reach(&uri, &socket).await?;
                let stream = match uri.scheme {
                    AMQPScheme::AMQP => Either::Left(stream),
                    AMQPScheme::AMQPS => {
                        Either::Right(tls.encrypt(stream, &uri.authority.host).await?)
                    }
                };
                let frame_max = uri.query.frame_max.unwrap_or_default();
                let (found, budget) = (Arc::clone(&found), Arc::clone(&budget));
                let filtered = Filtered::new(stream, found, budget, frame_max);
                Ok(AsyncTcpStream::Plain(filtered))
            };
            let opened: Result<_, Cause> = match timeout(limit, opening).await {
                Ok(opened) => opened,
                Err(_elapsed) => Err(Cause::Silent {
                    is_connected: socket.upgrade().is_some_and(|it| it.0.get().is_some()),
                    within: limit,
                }),
            };
            opened.map_err(lapin::Error::from)
        };
        Connection::connector(self.uri_of(role), runtime::current(), connect, options).await
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Target::new(&self.uri, false).fmt(f)
    }
}

/// Returns what the broker's list of connections shows of this one.
fn properties(role: Role) -> ConnectionProperties {
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy();
    let name = format!("pushrider {VERSION} at {host} ({})", role.name());
    ConnectionProperties::default()
        .with_client_property("product".into(), "pushrider".into())
        .with_client_property("version".into(), VERSION.into())
        .with_connection_name(name.into())
}

/// Connects to the host and port of a URL, without TLS yet.
async fn reach(uri: &AMQPUri, socket: &Weak<Socket>) -> Result<TcpStream, Cause> {
    let address = (uri.authority.host.as_str(), uri.authority.port);
    let resolved = lookup_host(address).await;
    let resolved = resolved.map_err(|error| Cause::Unresolved(error.to_string()))?;
    let addresses: Vec<_> = resolved.collect();
    let not_connected = |error: io::Error| Cause::NotConnected(error.kind(), error.to_string());
    let stream = runtime::connect(&addresses).await.map_err(not_connected)?;
    Socket::duplicate(socket, &stream).map_err(not_connected)?;
    Ok(stream)
}

/// Returns the virtual host that the URLs name; without one it is `/`.
pub(super) fn vhost(settings: &Settings) -> Result<String, NeedsOperator> {
    Ok(first_uri(settings)?.vhost)
}

/// Returns the user name and the password of the first AMQP URL.
///
/// # Errors
/// If a URL is malformed.
pub fn login(settings: &Settings) -> Result<(String, Secret<String>), NeedsOperator> {
    let user = first_uri(settings)?.authority.userinfo;
    Ok((user.username, Secret::new(user.password)))
}

/// Opens a channel, in bounded time.
pub(super) async fn open_channel(connection: &Connection) -> Result<Channel, SessionError> {
    Ok(answered("channel.open", connection.create_channel()).await?)
}

/// A connection whose socket is shut down when it is dropped.
pub(super) struct Link {
    pub(super) connection: Connection,
    /// What lapin cannot read of it, or does not tell.
    pub(super) found: Arc<Found>,
    /// How many bytes of its messages may be in hand.
    pub(super) budget: Arc<Budget>,
    _socket: Arc<Socket>,
}

impl Link {
    /// Closes the connection in good order if the broker answers, and in any case.
    pub(super) async fn close(&self) {
        let closing = self.connection.close(200, ShortString::from("OK"));
        if let Ok(Err(error)) = timeout(CLOSE_TIMEOUT, closing).await {
            tracing::debug!(%error, "the connection was closed already");
        }
    }
}

/// A duplicate of the socket that lapin's thread reads and writes: its last owner shuts it down.
#[derive(Default)]
struct Socket(OnceLock<net::TcpStream>);

impl Socket {
    /// Keeps a duplicate for the owner; fails if the connect was abandoned.
    fn duplicate(owner: &Weak<Self>, socket: impl AsFd) -> io::Result<()> {
        let owner = owner.upgrade().ok_or(io::ErrorKind::ConnectionAborted)?;
        let duplicate = net::TcpStream::from(socket.as_fd().try_clone_to_owned()?);
        owner.0.get_or_init(|| duplicate);
        Ok(())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(socket) = self.0.get()
            && let Err(error) = socket.shutdown(Shutdown::Both)
        {
            tracing::trace!(%error, "the socket was shut down already");
        }
    }
}

fn first_uri(settings: &Settings) -> Result<AMQPUri, NeedsOperator> {
    Ok(read_uris(&settings.urls, settings.client.is_some())?.swap_remove(0))
}

/// Reads the URLs of all hosts; there is at least one.
pub(super) fn read_uris(
    urls: &[Secret<String>],
    has_client_certificate: bool,
) -> Result<Vec<AMQPUri>, NeedsOperator> {
    let malformed = |(index, what): (usize, String)| {
        NeedsOperator::MalformedUrl(match urls.len() {
            0 | 1 => what,
            _ => format!("number {} {what}", index + 1),
        })
    };
    amqp_url::read_all(urls, has_client_certificate).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::tests::settings;
    use crate::secret::Secret;

    fn address(url: &str) -> Result<Address, NeedsOperator> {
        let uri = read_uris(&[Secret::new(url.to_owned())], false)?.remove(0);
        Address::new(uri, &settings())
    }

    #[test]
    fn a_url_gives_host_port_vhost_and_heartbeat() {
        for (url, shown, vhost, heartbeat) in [
            ("amqp://u:p@rabbit", "rabbit:5672", "/", 10),
            ("amqps://u:p@rabbit/%2f", "rabbit:5671", "/", 10),
            ("amqp://rabbit:5673/v?heartbeat=4", "rabbit:5673", "v", 4),
            ("amqp://u:p@127.0.0.1", "127.0.0.1:5672", "/", 10),
            ("amqp://u:p@[::1]:5000", "[::1]:5000", "/", 10),
        ] {
            let address = address(url).map_err(|error| error.to_string()).unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(address.uri.vhost, vhost);
            assert_eq!(address.uri.query.heartbeat, Some(heartbeat));
        }
    }

    #[test]
    fn a_malformed_url_is_refused_and_never_quoted() {
        for url in [
            "",
            "rabbit:hunter2",
            "http://u:hunter2@rabbit",
            "amqp:hunter2",
            "amqp://u:hunter2@/vhost",
            "amqp://u:hunter2@rabbit:99999",
            "amqp://u:hunter2@rabbit?heartbeat=hunter2",
            "amqp://u:%ff@rabbit",
        ] {
            let error = address(url).err().unwrap();
            assert!(matches!(error, NeedsOperator::MalformedUrl(_)), "{url}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
