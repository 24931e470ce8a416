//! A test's own virtual host, and what a test does there as a producer or consumer.

use futures_util::StreamExt;
use lapin::message::BasicGetMessage;
use lapin::options::{
    BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions,
    ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use tokio::sync::OnceCell;

use super::broker::Broker;

/// A virtual host.
pub(crate) struct Vhost {
    name: String,
    amqp: u16,
    amqps: u16,
    probe: OnceCell<(Connection, Channel)>,
}

impl Vhost {
    pub(super) fn new(name: String, amqp: u16, amqps: u16) -> Self {
        Self {
            name,
            amqp,
            amqps,
            probe: OnceCell::new(),
        }
    }

    /// The same at another node of a cluster.
    pub(crate) fn at(&self, node: &Broker) -> Self {
        Self::new(self.name.clone(), node.port(), 0)
    }

    /// The same with a new connection of the test's own, for after a fault.
    pub(crate) fn again(self) -> Self {
        Self::new(self.name, self.amqp, self.amqps)
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The port of the broker, for a proxy.
    pub(crate) fn port(&self) -> u16 {
        self.amqp
    }

    /// The URL of the user who may do everything.
    pub(crate) fn url(&self) -> String {
        self.url_of("guest", self.amqp)
    }

    /// The URL of a user whose password is his name, through a port.
    pub(crate) fn url_of(&self, user: &str, port: u16) -> String {
        format!("amqp://{user}:{user}@127.0.0.1:{port}/{}", self.name)
    }

    /// The URL over TLS.
    pub(crate) fn tls_url(&self) -> String {
        let (port, name) = (self.amqps, &self.name);
        format!("amqps://guest:guest@localhost:{port}/{name}")
    }

    /// Publishes a persistent message and waits until the broker has it.
    pub(crate) async fn publish(&self, exchange: &str, key: &str, body: &[u8]) {
        let properties = BasicProperties::default();
        self.publish_with(exchange, key, body, properties).await;
    }

    /// The same with more properties.
    pub(crate) async fn publish_with(
        &self,
        exchange: &str,
        key: &str,
        body: &[u8],
        properties: BasicProperties,
    ) {
        let options = BasicPublishOptions::default();
        let properties = properties.with_delivery_mode(2);
        let (exchange, key) = (exchange.into(), key.into());
        let channel = self.channel().await;
        let published = channel.basic_publish(exchange, key, options, body, properties);
        let confirm = published.await.unwrap().await.unwrap();
        assert!(confirm.is_ack(), "{confirm:?}");
    }

    /// Publishes many messages of numbered bodies.
    pub(crate) async fn publish_numbered(&self, exchange: &str, key: &str, count: usize) {
        let numbers = (0..count).map(|number| number.to_string());
        self.publish_all(exchange, key, numbers).await;
    }

    /// Publishes without waiting for the confirm of one before the next.
    pub(crate) async fn publish_all(
        &self,
        exchange: &str,
        key: &str,
        bodies: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) {
        let channel = self.channel().await;
        let mut confirms = Vec::new();
        for body in bodies {
            let published = channel.basic_publish(
                exchange.into(),
                key.into(),
                BasicPublishOptions::default(),
                body.as_ref(),
                BasicProperties::default().with_delivery_mode(2),
            );
            confirms.push(published.await.unwrap());
        }
        for confirm in confirms {
            assert!(confirm.await.unwrap().is_ack());
        }
    }

    /// Counts the messages that are ready in a queue.
    pub(crate) async fn depth(&self, queue: &str) -> u32 {
        let options = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let channel = self.channel().await;
        let declared = channel.queue_declare(queue.into(), options, FieldTable::default());
        declared.await.unwrap().message_count()
    }

    /// Takes a message out of a queue.
    pub(crate) async fn take(&self, queue: &str) -> Option<BasicGetMessage> {
        let options = BasicGetOptions { no_ack: true };
        self.channel()
            .await
            .basic_get(queue.into(), options)
            .await
            .unwrap()
    }

    /// Takes everything that is ready out of a queue.
    ///
    /// It consumes: a quorum queue writes to the disk for each `basic.get`.
    pub(crate) async fn take_all(&self, queue: &str) -> Vec<Vec<u8>> {
        let ready = self.depth(queue).await as usize;
        let mut bodies = Vec::with_capacity(ready);
        if ready == 0 {
            return bodies;
        }
        let channel = self.channel().await;
        let options = BasicConsumeOptions {
            no_ack: true,
            ..Default::default()
        };
        let (tag, no_arguments) = ("take-all", FieldTable::default());
        let consuming = channel.basic_consume(queue.into(), tag.into(), options, no_arguments);
        let mut messages = consuming.await.unwrap();
        while bodies.len() < ready {
            bodies.push(messages.next().await.unwrap().unwrap().data);
        }
        let cancelling = channel.basic_cancel(tag.into(), BasicCancelOptions::default());
        cancelling.await.unwrap();
        while let Some(message) = messages.next().await {
            bodies.push(message.unwrap().data);
        }
        bodies
    }

    /// Takes everything that is ready out of a queue, as texts.
    pub(crate) async fn take_texts(&self, queue: &str) -> Vec<String> {
        let bodies = self.take_all(queue).await.into_iter();
        bodies
            .map(|body| String::from_utf8(body).unwrap())
            .collect()
    }

    /// Declares a durable queue.
    pub(crate) async fn queue(&self, name: &str, arguments: FieldTable) {
        let options = QueueDeclareOptions {
            durable: true,
            ..Default::default()
        };
        let channel = self.channel().await;
        channel
            .queue_declare(name.into(), options, arguments)
            .await
            .unwrap();
    }

    /// Binds a queue to an exchange.
    pub(crate) async fn bind(&self, queue: &str, exchange: &str, key: &str) {
        let options = QueueBindOptions::default();
        let (queue, exchange, key) = (queue.into(), exchange.into(), key.into());
        let channel = self.channel().await;
        let bound = channel.queue_bind(queue, exchange, key, options, FieldTable::default());
        bound.await.unwrap();
    }

    /// Removes a binding of a queue.
    pub(crate) async fn unbind(&self, queue: &str, exchange: &str, key: &str) {
        let (queue, exchange, key) = (queue.into(), exchange.into(), key.into());
        let channel = self.channel().await;
        let unbound = channel.queue_unbind(queue, exchange, key, FieldTable::default());
        unbound.await.unwrap();
    }

    /// Deletes a queue.
    pub(crate) async fn delete(&self, queue: &str) {
        let options = QueueDeleteOptions::default();
        let channel = self.channel().await;
        channel.queue_delete(queue.into(), options).await.unwrap();
    }

    /// Returns the confirming channel of the test's own.
    async fn channel(&self) -> &Channel {
        let (_, channel) = self
            .probe
            .get_or_init(async || open(&self.url()).await)
            .await;
        channel
    }
}

/// Opens a connection with a confirming channel.
pub(crate) async fn open(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default());
    let connection = connection.await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .unwrap();
    (connection, channel)
}

/// Makes queue arguments of texts and numbers.
pub(crate) fn arguments(pairs: &[(&str, &str)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in pairs {
        let value = value.parse().map_or_else(
            |_| lapin::types::AMQPValue::LongString((*value).into()),
            lapin::types::AMQPValue::LongLongInt,
        );
        table.insert(ShortString::from(*name), value);
    }
    table
}
