//! The handle of a sandbox.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::control;
use super::listener::{self, Listener};
use super::messages::Message;
use super::same_host::Hosts;
use super::script::Script;
use super::service::PushService;
use super::stats::Stats;
use super::subscribe::{SubscribeError, SubscribeRequest};
use super::subscriptions::SubscriptionJson;
use crate::origin::Service;

/// A sandbox that runs until it is stopped or dropped.
pub struct Running {
    pub(super) service: Arc<PushService>,
    ca: Arc<str>,
    control: Option<SocketAddr>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl Running {
    /// Creates a sandbox without listeners.
    pub(super) fn new(service: PushService, ca: &str, control: Option<SocketAddr>) -> Self {
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        // A closed tracker still accepts tasks; closing it lets `wait` return once the last one ends.
        tasks.close();
        Self {
            service: Arc::new(service),
            ca: ca.into(),
            control,
            tasks,
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
        }
    }

    /// Returns the origins, in the order of [`Settings::listen`](super::Settings::listen).
    #[must_use]
    pub fn origins(&self) -> &[String] {
        &self.service.origins
    }

    /// Returns what each of them speaks as.
    pub fn services(&self) -> impl Iterator<Item = Service> {
        (0..self.service.origins.len()).map(|origin| self.service.speaks_as(origin))
    }

    /// Returns the base URL of the control listener.
    #[must_use]
    pub fn control(&self) -> Option<String> {
        self.control.map(|address| format!("http://{address}"))
    }

    /// Returns the certificate (PEM) that clients must trust.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca
    }

    /// Creates a subscription; a [`Script`] alone is a request, too.
    ///
    /// # Errors
    /// If the wish cannot be granted.
    pub fn subscribe(
        &self,
        request: impl Into<SubscribeRequest>,
    ) -> Result<SubscriptionJson, SubscribeError> {
        self.service.subscribe(request.into())
    }

    /// Begins another script for a subscription; returns whether there is one of that id, whose
    /// service has all the answers.
    pub fn play(&self, id: &str, script: Script) -> bool {
        self.service
            .play(id, script)
            .is_ok_and(|found| found.is_some())
    }

    /// Returns the messages that are kept, oldest first, of one subscription or of all.
    #[must_use]
    pub fn messages(&self, subscription: Option<&str>) -> Vec<Arc<Message>> {
        self.service.messages.of(subscription)
    }

    /// Forgets the messages that are kept.
    pub fn forget(&self) {
        self.service.messages.clear();
    }

    /// Returns the numbers so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.service.stats()
    }

    /// Listens to messages as they come, before they are answered.
    #[must_use]
    pub fn arrivals(&self) -> broadcast::Receiver<Arc<Message>> {
        self.service.messages.arrivals()
    }

    /// Ends all connections and waits until nothing of the sandbox is left.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }

    /// Accepts pushes on a socket.
    pub(super) fn listen(
        &self,
        origin: usize,
        socket: TcpListener,
        tls: &TlsAcceptor,
        streams: u32,
    ) {
        let listener = Listener {
            origin,
            socket,
            tls: tls.clone(),
            http: listener::http(streams),
            service: Arc::clone(&self.service),
            stop: self.stop.clone(),
            tasks: self.tasks.clone(),
        };
        self.tasks.spawn(listener.run());
    }

    /// Serves control requests on a socket, to those who ask for one of `hosts`.
    pub(super) fn serve_control(&self, socket: TcpListener, hosts: Hosts) {
        let stop = self.stop.clone();
        let (service, ca) = (Arc::clone(&self.service), Arc::clone(&self.ca));
        let routes = control::routes(service, ca, hosts, stop.clone());
        self.tasks.spawn(async move {
            let serving = axum::serve(socket, routes).into_future();
            stop.run_until_cancelled(serving).await
        });
    }
}
