//! Declares the topology, or checks that it exists: for a generation, and for commands of an operator.
//!
//! What can go wrong here: every refusal closes the channel, so each gets a new one. Where a queue
//! exists with other arguments (406), an operator has decided; it is used as it is, and a warning
//! says so. RabbitMQ gives the same code where the virtual host may have no more queues; only a look
//! tells the two apart.

use lapin::options::{
    ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection};

use crate::broker::addresses::Addresses;
use crate::broker::answer::answered;
use crate::broker::connect::open_channel;
use crate::broker::error::SessionError;
use crate::broker::object::{Destination, ExchangeKind, Object, alternate_exchange};
use crate::broker::product::Product;
use crate::broker::reply::{is_mismatch, is_missing, words};
use crate::broker::topology::Topology;
use crate::broker::{Declare, NeedsOperator, Settings};
use crate::metrics::Role;

/// Declares the objects, or checks that they exist, as `mode` demands.
pub(super) async fn declare(
    connection: &Connection,
    objects: &[Object],
    mode: Declare,
) -> Result<(), SessionError> {
    let passive = match mode {
        Declare::Create => false,
        Declare::Passive => true,
        Declare::None => return Ok(()),
    };
    let mut channel = open_channel(connection).await?;
    for object in objects {
        let Err(error) = one(&channel, object, passive).await else {
            continue;
        };
        if passive || !is_mismatch(&error) {
            return Err(SessionError::declare(object, error));
        }
        channel = open_channel(connection).await?;
        match one(&channel, object, true).await {
            Ok(()) => tracing::warn!(
                object = object.to_string(),
                difference = difference(&error),
                "it exists with other arguments than configured, and is used as it is"
            ),
            // Nothing exists that could differ: the broker objects to making it.
            Err(other) if is_missing(&other) => return Err(SessionError::declare(object, error)),
            Err(other) => return Err(SessionError::declare(object, other)),
        }
    }
    Ok(())
}

/// What a look at the broker finds, in words where it is not as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspected {
    /// Which broker it is, if it says so.
    pub product: Option<Product>,
    /// How many exchanges and queues are as they should be.
    pub there: usize,
    /// What does not exist yet, and the daemon declares.
    pub undeclared: Vec<String>,
    /// What exists with other arguments, and is used as it is.
    pub different: Vec<String>,
    /// What keeps the daemon from running.
    pub problems: Vec<String>,
    /// Why there is no connection to further hosts, where there are several.
    pub away: Vec<String>,
}

/// Looks at the objects without changing anything.
///
/// To declare again what exists changes nothing and shows whether the daemon may, so that is tried
/// where the daemon would declare; what it may do with objects that do not exist cannot be seen.
pub(super) async fn inspect(
    connection: &Connection,
    objects: impl Iterator<Item = &Object>,
    mode: Declare,
) -> Result<Inspected, SessionError> {
    let mut inspected = Inspected::default();
    let mut channel = open_channel(connection).await?;
    for object in objects.filter(|it| !matches!(it, Object::Binding { .. })) {
        let list = match one(&channel, object, true).await {
            Ok(()) if mode != Declare::Create => None,
            Ok(()) => match one(&channel, object, false).await {
                Ok(()) => None,
                Err(error) if is_mismatch(&error) => Some((
                    &mut inspected.different,
                    format!(
                        "{object} exists with other arguments than configured, and is used as it is: {}",
                        difference(&error)
                    ),
                )),
                Err(error) => {
                    let problem = SessionError::declare(object, error).to_string();
                    Some((&mut inspected.problems, problem))
                }
            },
            Err(error) if is_missing(&error) => Some(match mode {
                Declare::Create => (&mut inspected.undeclared, object.to_string()),
                Declare::Passive | Declare::None => {
                    (&mut inspected.problems, format!("{object} does not exist"))
                }
            }),
            Err(error) => return Err(SessionError::declare(object, error)),
        };
        let Some((list, text)) = list else {
            inspected.there += 1;
            continue;
        };
        list.push(text);
        channel = open_channel(connection).await?;
    }
    Ok(inspected)
}

/// Says which argument is not as configured, where the broker refuses to declare what exists.
fn difference(error: &lapin::Error) -> String {
    let words = words(error).unwrap_or_default();
    let argument = words.split_once("inequivalent arg ").map(|(_, rest)| rest);
    let name = argument.and_then(|it| it.split('\'').nth(1));
    let values = argument.and_then(|it| it.split_once("': received "));
    let values = values.and_then(|(_, values)| values.split_once(" but current is "));
    let plain = |value: &str| value.split('\'').nth(1).unwrap_or(value).to_owned();
    match (name, values) {
        (Some(name), Some((configured, current))) => {
            let (configured, current) = (plain(configured), plain(current));
            format!("{name} is {current}, configured is {configured}")
        }
        _ => words,
    }
}

/// What existed of a topology, and what was made to complete it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// The exchanges and queues that were missing.
    pub made: Vec<String>,
    /// The exchanges and queues that existed already, as they should be.
    pub there: Vec<String>,
    /// The exchanges and queues that exist with other arguments, and are left as they are.
    pub different: Vec<String>,
    /// The bindings, which AMQP has no way to look at.
    pub bindings: Vec<String>,
}

/// Declares every object. Records which existed and which were created, also where an error ends it.
pub(super) async fn complete(
    connection: &Connection,
    objects: impl Iterator<Item = &Object>,
    declared: &mut Declared,
) -> Result<(), SessionError> {
    let mut channel = open_channel(connection).await?;
    for object in objects {
        let binding = matches!(object, Object::Binding { .. });
        let existed = match one(&channel, object, true).await {
            Ok(()) => !binding,
            Err(error) if is_missing(&error) => {
                channel = open_channel(connection).await?;
                false
            }
            Err(error) => return Err(SessionError::declare(object, error)),
        };
        let list = match one(&channel, object, false).await {
            Ok(()) if binding => &mut declared.bindings,
            Ok(()) if existed => &mut declared.there,
            Ok(()) => &mut declared.made,
            Err(error) if existed && is_mismatch(&error) => {
                channel = open_channel(connection).await?;
                &mut declared.different
            }
            Err(error) => return Err(SessionError::declare(object, error)),
        };
        list.push(object.to_string());
    }
    Ok(())
}

async fn one(channel: &Channel, object: &Object, passive: bool) -> lapin::Result<()> {
    match object {
        Object::Exchange {
            name,
            kind,
            alternate,
            ..
        } => {
            let options = ExchangeDeclareOptions {
                passive,
                durable: true,
                ..Default::default()
            };
            let kind = match kind {
                ExchangeKind::Topic => lapin::ExchangeKind::Topic,
                ExchangeKind::Fanout => lapin::ExchangeKind::Fanout,
            };
            let arguments = alternate
                .as_ref()
                .map(alternate_exchange)
                .unwrap_or_default();
            let declaring = channel.exchange_declare(name.clone(), kind, options, arguments);
            answered("exchange.declare", declaring).await
        }
        Object::Queue {
            name, arguments, ..
        } => {
            let options = QueueDeclareOptions {
                passive,
                durable: true,
                ..Default::default()
            };
            let declaring = channel.queue_declare(name.clone(), options, arguments.clone());
            answered("queue.declare", declaring).await.map(drop)
        }
        // AMQP has no way to look at a binding.
        Object::Binding { .. } if passive => Ok(()),
        Object::Binding {
            exchange,
            destination,
            key,
        } => bind(channel, exchange, destination, key).await,
    }
}

async fn bind(
    channel: &Channel,
    source: &ShortString,
    destination: &Destination,
    key: &ShortString,
) -> lapin::Result<()> {
    let (source, key, arguments) = (source.clone(), key.clone(), FieldTable::default());
    match destination.clone() {
        Destination::Queue(queue) => {
            let options = QueueBindOptions::default();
            let binding = channel.queue_bind(queue, source, key, options, arguments);
            answered("queue.bind", binding).await
        }
        Destination::Exchange(exchange) => {
            let options = ExchangeBindOptions::default();
            let binding = channel.exchange_bind(exchange, source, key, options, arguments);
            answered("exchange.bind", binding).await
        }
    }
}

/// Checks every exchange and queue without changing anything. Where nothing is among the problems, the
/// daemon runs.
///
/// Nothing is tried twice, since an operator waits for the answer.
///
/// # Errors
/// If there is no connection to the broker.
pub async fn check(settings: &Settings) -> Result<Inspected, NeedsOperator> {
    let mut addresses = Addresses::new(settings)?;
    let topology = Topology::new(settings);
    let inspected = async {
        let link = addresses.connect(Role::Consume).await?;
        let mut inspected = inspect(&link.connection, topology.objects(), settings.declare).await?;
        inspected.product = link.found.product().cloned();
        link.close().await;
        Ok(inspected)
    };
    let inspected: Result<_, SessionError> = inspected.await;
    let inspected =
        inspected.map_err(|error| needs_operator(&error, &addresses, settings.declare))?;
    Ok(Inspected {
        away: addresses.connect_to_others(Role::Consume).await,
        ..inspected
    })
}

/// Declares every exchange, queue and binding, whatever the daemon itself may declare.
///
/// `declared` records what was done, also where an error ends it.
///
/// # Errors
/// If there is no connection to the broker, or it refuses an object. What was declared before stays.
pub async fn declare_topology(
    settings: &Settings,
    declared: &mut Declared,
) -> Result<(), NeedsOperator> {
    let mut addresses = Addresses::new(settings)?;
    let topology = Topology::new(settings);
    let completed = async {
        let link = addresses.connect(Role::Consume).await?;
        complete(&link.connection, topology.objects(), declared).await?;
        link.close().await;
        Ok(())
    };
    let completed: Result<_, SessionError> = completed.await;
    completed.map_err(|error| needs_operator(&error, &addresses, Declare::Create))
}

/// Returns what an operator is told of an error that ended a command.
pub(super) fn needs_operator(
    error: &SessionError,
    addresses: &Addresses,
    declare: Declare,
) -> NeedsOperator {
    let act = error.needs_operator(declare);
    if let Some(act) = act.or_else(|| error.refusal()) {
        return addresses.locate(act);
    }
    NeedsOperator::Unreachable {
        reason: if matches!(error, SessionError::Connect(_) | SessionError::NoHost(_)) {
            error.to_string()
        } else {
            format!("the broker at {addresses}: {error}")
        },
    }
}
