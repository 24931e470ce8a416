//! A connection for an operator's commands: publishes an event, and follows what the daemon publishes.
//!
//! Results are read from an exclusive queue, which the broker deletes with the connection, however the
//! command ends. They are copies: no other consumer misses one.

use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Consumer};
use tokio::time::timeout;

use crate::broker::addresses::Addresses;
use crate::broker::answer::answered;
use crate::broker::connect::{Link, open_channel};
use crate::broker::declare::needs_operator;
use crate::broker::error::SessionError;
use crate::broker::route::{Routes, short};
use crate::broker::{Declare, NeedsOperator, Settings};
use crate::metrics::Role;
use crate::wire::control;

/// A connection to the broker for one command.
pub struct CommandClient {
    addresses: Addresses,
    link: Link,
    channel: Channel,
    routes: Routes,
    confirm_timeout: Duration,
}

/// Results and subscription events as they come.
pub struct Followed(Consumer);

/// Why an event or a control message was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The connection, a missing exchange, or a permission.
    #[error(transparent)]
    Broker(#[from] NeedsOperator),
    /// The broker answered `basic.nack`.
    #[error(
        "the broker refused the message: a queue is full or unavailable; publish it again later"
    )]
    Refused,
    /// The broker returned the message.
    #[error("no queue takes the message: run `pushrider topology declare`, or start the daemon")]
    Unroutable,
}

impl CommandClient {
    /// Connects and opens a channel that confirms publications.
    ///
    /// # Errors
    /// If there is no connection to the broker.
    pub async fn connect(settings: &Settings) -> Result<Self, NeedsOperator> {
        let mut addresses = Addresses::new(settings)?;
        let opened = async {
            let link = addresses.connect(Role::Consume).await?;
            let channel = open_channel(&link.connection).await?;
            let selecting = channel.confirm_select(ConfirmSelectOptions::default());
            answered("confirm.select", selecting).await?;
            Ok((link, channel))
        };
        let opened: Result<_, SessionError> = opened.await;
        let (link, channel) = opened.map_err(|error| operator(&error, &addresses))?;
        Ok(Self {
            addresses,
            link,
            channel,
            routes: Routes::new(settings),
            confirm_timeout: settings.confirm_timeout,
        })
    }

    /// Publishes an event, persistent and mandatory, and waits for the confirm.
    ///
    /// # Errors
    /// If the broker does not confirm the event, or no queue takes it.
    pub async fn publish_event(
        &self,
        routing_key: &str,
        message_id: &str,
        body: &[u8],
    ) -> Result<(), PublishError> {
        let properties = BasicProperties::default()
            .with_content_type(short("application/json"))
            .with_message_id(short(message_id));
        self.publish(routing_key, properties, body).await
    }

    /// Publishes a control message in the same way.
    ///
    /// # Errors
    /// If the broker does not confirm it, or no queue takes it.
    pub async fn publish_control(
        &self,
        routing_key: &str,
        body: &[u8],
    ) -> Result<(), PublishError> {
        let properties = BasicProperties::default()
            .with_content_type(short("application/json"))
            .with_type(short(control::MESSAGE_TYPE));
        let exchange = self.routes.control();
        self.publish_to(exchange, routing_key, properties, body)
            .await
    }

    /// Publishes an event with properties of any kind.
    pub(super) async fn publish(
        &self,
        routing_key: &str,
        properties: BasicProperties,
        body: &[u8],
    ) -> Result<(), PublishError> {
        let exchange = self.routes.name("events");
        self.publish_to(exchange, routing_key, properties, body)
            .await
    }

    async fn publish_to(
        &self,
        exchange: ShortString,
        routing_key: &str,
        properties: BasicProperties,
        body: &[u8],
    ) -> Result<(), PublishError> {
        let options = BasicPublishOptions {
            mandatory: true,
            ..Default::default()
        };
        let properties = properties.with_delivery_mode(2);
        let key = short(routing_key);
        let confirmed = async {
            let publishing = self
                .channel
                .basic_publish(exchange, key, options, body, properties);
            publishing.await?.await
        };
        let within = self.confirm_timeout;
        let confirmation = match timeout(within, confirmed).await {
            Ok(Ok(confirmation)) => Ok(confirmation),
            Ok(Err(error)) => Err(SessionError::Publish(error)),
            Err(_elapsed) => Err(SessionError::Unconfirmed(within)),
        };
        match confirmation.map_err(|error| self.operator(&error))? {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(_returned)) => Err(PublishError::Unroutable),
            Confirmation::Nack(_) => Err(PublishError::Refused),
            Confirmation::NotRequested => Err(self.operator(&SessionError::ConfirmsOff).into()),
        }
    }

    /// Follows what is published to the results exchange with these binding keys, from now on.
    ///
    /// # Errors
    /// If the queue cannot be declared, bound or consumed.
    pub async fn follow(&self, keys: &[&str]) -> Result<Followed, NeedsOperator> {
        let consumer = self.consume(keys).await;
        let consumer = consumer.map_err(|error| self.operator(&error.into()))?;
        Ok(Followed(consumer))
    }

    async fn consume(&self, keys: &[&str]) -> lapin::Result<Consumer> {
        let options = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..Default::default()
        };
        let nameless = ShortString::default();
        let declaring = self
            .channel
            .queue_declare(nameless, options, FieldTable::default());
        let queue = answered("queue.declare", declaring).await?.name().clone();
        for key in keys {
            let (exchange, key) = (self.routes.name("results"), short(key));
            let options = QueueBindOptions::default();
            let arguments = FieldTable::default();
            let binding = self
                .channel
                .queue_bind(queue.clone(), exchange, key, options, arguments);
            answered("queue.bind", binding).await?;
        }
        let options = BasicConsumeOptions {
            no_ack: true,
            exclusive: true,
            ..Default::default()
        };
        let (tag, arguments) = (ShortString::default(), FieldTable::default());
        let consuming = self.channel.basic_consume(queue, tag, options, arguments);
        answered("basic.consume", consuming).await
    }

    /// Returns the channel on which this client works.
    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Puts the prefix in front of the rest of a name.
    pub(super) fn name(&self, rest: &str) -> ShortString {
        self.routes.name(rest)
    }

    /// Returns what an operator is told of an error.
    pub(super) fn operator(&self, error: &SessionError) -> NeedsOperator {
        operator(error, &self.addresses)
    }

    /// Closes the connection, and with it every queue of this client.
    pub async fn close(self) {
        self.link.close().await;
    }
}

impl Followed {
    /// Returns the body of the next message, or `None` if the connection or the queue is gone.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        let message = self.0.next().await?;
        message.ok().map(|message| message.data)
    }
}

fn operator(error: &SessionError, addresses: &Addresses) -> NeedsOperator {
    needs_operator(error, addresses, Declare::Passive)
}
