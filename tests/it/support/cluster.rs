//! A cluster of three private RabbitMQ nodes.

use std::thread;

use super::broker::Broker;
use super::vhost::Vhost;

/// Three nodes; each has the virtual hosts of the first.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Broker>,
}

impl Cluster {
    /// Starts the nodes and joins them; they end with the value.
    pub(crate) fn start() -> Self {
        let first = Broker::own();
        let others = thread::scope(|scope| {
            let starting = [(); 2].map(|()| scope.spawn(|| first.another()));
            starting.map(|started| started.join().unwrap())
        });
        for other in &others {
            other.join(&first);
        }
        Self {
            nodes: [first].into_iter().chain(others).collect(),
        }
    }

    /// Returns the URL of the same virtual host at each node.
    pub(crate) fn urls(&self, vhost: &Vhost) -> Vec<String> {
        let ports = self.nodes.iter().map(Broker::port);
        ports.map(|port| vhost.url_of("guest", port)).collect()
    }
}
