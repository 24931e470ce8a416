//! Errors of the broker, and what an operator must do about them.
//!
//! Most errors pass: the network, a broker that restarts or is not up yet. Some do not pass until an
//! operator acts. AMQP's reply codes tell them apart, never a text. None of these values
//! carries a secret: URLs are not quoted, and lapin's parse errors, which may show bytes of a
//! message, are replaced by a sentence.

use std::fmt;
use std::time::Duration;

use lapin::ErrorKind;
use lapin::protocol::AMQPErrorKind;

use crate::broker::Declare;
use crate::broker::object::Object;

const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;
const PRECONDITION_FAILED: u16 = 406;
const NOT_ALLOWED: u16 = 530;

/// Why running on is useless until an operator acts: exit code 78.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NeedsOperator {
    /// The URL cannot be read.
    #[error("the AMQP URL {0}")]
    MalformedUrl(String),
    /// The extra certificates cannot be read.
    #[error("the CA file of the broker holds no readable PEM certificate")]
    UnreadableCa,
    /// `check`: the broker does not answer.
    #[error("the broker at {address} cannot be reached: {reason}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// Why.
        reason: String,
    },
    /// 403 at login.
    #[error(
        "the broker refuses the user name or the password (403): check both in the AMQP URL, and \
         with `rabbitmqctl authenticate_user`"
    )]
    LoginRefused,
    /// 530 at login.
    #[error(
        "the broker does not let the user into the virtual host {vhost:?} (530): it must exist \
         (`rabbitmqctl add_vhost`) and the user needs permissions in it \
         (`rabbitmqctl set_permissions`)"
    )]
    VhostRefused {
        /// The virtual host of the AMQP URL.
        vhost: String,
    },
    /// 403 when an object is declared.
    #[error(
        "the broker user may not declare {object} (403): give it the configure, write and read \
         permissions on everything that starts with the prefix, or declare the topology as another \
         user (`pushrider topology declare`) and set broker.declare = \"passive\""
    )]
    MayNotDeclare {
        /// The exchange, queue or binding.
        object: String,
    },
    /// 406 for an object that does not exist, which is how RabbitMQ keeps a virtual host's limits.
    #[error(
        "the broker does not let {object} be made (406): {reason}; raise the limit \
         (`rabbitmqctl list_vhost_limits`, `rabbitmqctl set_vhost_limits`), or configure fewer lanes \
         and delay bands"
    )]
    OverLimit {
        /// The exchange or queue.
        object: String,
        /// The broker's words.
        reason: String,
    },
    /// `topology declare`: any other refusal of one object.
    #[error("the broker refuses to declare {object}: {reason}")]
    Refused {
        /// The exchange, queue or binding.
        object: String,
        /// The broker's words.
        reason: String,
    },
    /// 403 when a queue is consumed.
    #[error("the broker user may not consume {object} (403): give it the read permission there")]
    MayNotConsume {
        /// The queue.
        object: String,
    },
    /// 403 when the first publication is published.
    #[error(
        "the broker user may not publish (403): give it the write permission on the results and \
         delay exchanges and on amq.default, the default exchange"
    )]
    MayNotPublish,
    /// 404.
    #[error(
        "{object} does not exist, and broker.declare = \"{declare}\" does not make it: declare it \
         (`pushrider topology declare`), or set broker.declare = \"create\""
    )]
    Missing {
        /// The exchange or queue.
        object: String,
        /// The word of the configuration.
        declare: &'static str,
    },
}

/// Why a generation of connections ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    /// The connection could not be made.
    #[error("cannot connect: {}", Plain(error))]
    Connect {
        /// The virtual host that was asked for.
        vhost: String,
        /// What came of it.
        #[source]
        error: lapin::Error,
    },
    /// Somebody accepted and stayed silent.
    #[error("no AMQP handshake within {0:?}")]
    Silent(Duration),
    /// An exchange, queue or binding could not be declared.
    #[error("cannot declare {object}: {}", Plain(.error))]
    Declare {
        object: String,
        #[source]
        error: lapin::Error,
    },
    /// A queue could not be consumed.
    #[error("cannot consume {object}: {}", Plain(.error))]
    Consume {
        object: String,
        #[source]
        error: lapin::Error,
    },
    /// The broker ended a consumer, as it does when its queue is deleted.
    #[error("the broker cancelled the consumer of {object}")]
    Cancelled { object: String },
    /// Publishing failed, and the publishing channel with it.
    #[error("cannot publish: {}", Plain(.0))]
    Publish(#[source] lapin::Error),
    /// A connection or channel broke.
    #[error("the connection is lost: {}", Plain(.0))]
    Lost(#[from] lapin::Error),
    /// A publication was not written, or neither confirmed nor refused.
    #[error("a publication was not confirmed within {0:?}")]
    Unconfirmed(Duration),
    /// The publishing channel does not confirm.
    #[error("the channel does not confirm publications")]
    ConfirmsOff,
}

impl SessionError {
    pub(super) fn declare(object: &Object, error: lapin::Error) -> Self {
        Self::Declare {
            object: object.to_string(),
            error,
        }
    }

    /// Returns whether an operator must act before another attempt can succeed.
    pub(super) fn needs_operator(&self, declare: Declare) -> Option<NeedsOperator> {
        match self {
            Self::Connect { vhost, error } => match reply_code(error)? {
                ACCESS_REFUSED => Some(NeedsOperator::LoginRefused),
                NOT_ALLOWED => Some(NeedsOperator::VhostRefused {
                    vhost: vhost.clone(),
                }),
                _ => None,
            },
            Self::Declare { object, error } => match reply_code(error)? {
                ACCESS_REFUSED => Some(NeedsOperator::MayNotDeclare {
                    object: object.clone(),
                }),
                NOT_FOUND => Some(missing(object, declare)),
                PRECONDITION_FAILED => Some(NeedsOperator::OverLimit {
                    object: object.clone(),
                    reason: words(error)?,
                }),
                _ => None,
            },
            Self::Consume { object, error } => match reply_code(error)? {
                ACCESS_REFUSED => Some(NeedsOperator::MayNotConsume {
                    object: object.clone(),
                }),
                NOT_FOUND => Some(missing(object, declare)),
                _ => None,
            },
            Self::Publish(error) => match reply_code(error)? {
                ACCESS_REFUSED => Some(NeedsOperator::MayNotPublish),
                _ => None,
            },
            Self::Silent(_)
            | Self::Cancelled { .. }
            | Self::Lost(_)
            | Self::Unconfirmed(_)
            | Self::ConfirmsOff => None,
        }
    }

    /// Returns whether the broker, which is there and well, will not have one object, which an operator
    /// who declares wants to know.
    pub(super) fn refusal(&self) -> Option<NeedsOperator> {
        let Self::Declare { object, error } = self else {
            return None;
        };
        let ErrorKind::ProtocolError(refused) = error.kind() else {
            return None;
        };
        matches!(refused.kind(), AMQPErrorKind::Soft(_)).then_some(NeedsOperator::Refused {
            object: object.clone(),
            reason: words(error)?,
        })
    }
}

/// Returns whether an object exists with other arguments than were asked for.
pub(super) fn is_mismatch(error: &lapin::Error) -> bool {
    reply_code(error) == Some(PRECONDITION_FAILED)
}

/// Returns whether an object does not exist.
pub(super) fn is_missing(error: &lapin::Error) -> bool {
    reply_code(error) == Some(NOT_FOUND)
}

/// Returns the reply code the broker closed a channel or connection with.
fn reply_code(error: &lapin::Error) -> Option<u16> {
    let ErrorKind::ProtocolError(error) = error.kind() else {
        return None;
    };
    Some(error.get_id())
}

/// Returns the words the broker closed a channel or connection with.
fn words(error: &lapin::Error) -> Option<String> {
    let ErrorKind::ProtocolError(error) = error.kind() else {
        return None;
    };
    Some(error.get_message().to_string())
}

fn missing(object: &str, declare: Declare) -> NeedsOperator {
    NeedsOperator::Missing {
        object: object.to_owned(),
        declare: match declare {
            Declare::Create => "create",
            Declare::Passive => "passive",
            Declare::None => "none",
        },
    }
}

/// An error of lapin's in words that show nothing of a message.
struct Plain<'a>(&'a lapin::Error);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if matches!(self.0.kind(), ErrorKind::ParsingError(_)) {
            return f.write_str("the broker sent a frame that cannot be read");
        }
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use lapin::protocol::AMQPError;

    use super::*;

    fn closed_with(code: u16) -> lapin::Error {
        let error = AMQPError::from_id(code, "because".into()).unwrap();
        ErrorKind::ProtocolError(error).into()
    }

    #[test]
    fn an_operator_must_act_only_where_trying_again_cannot_help() {
        let object = || "queue q".to_owned();
        let verdict = |error: SessionError| error.needs_operator(Declare::Passive);
        let connecting = |error| SessionError::Connect {
            vhost: "web".to_owned(),
            error,
        };
        let connect = |code| verdict(connecting(closed_with(code)));
        let declare = |code| {
            verdict(SessionError::Declare {
                object: object(),
                error: closed_with(code),
            })
        };
        let consume = |code| {
            verdict(SessionError::Consume {
                object: object(),
                error: closed_with(code),
            })
        };
        let gone = Some(NeedsOperator::Missing {
            object: object(),
            declare: "passive",
        });
        assert_eq!(connect(403), Some(NeedsOperator::LoginRefused));
        assert_eq!(
            connect(530),
            Some(NeedsOperator::VhostRefused {
                vhost: "web".to_owned()
            })
        );
        assert_eq!(
            declare(403),
            Some(NeedsOperator::MayNotDeclare { object: object() })
        );
        assert_eq!(declare(404), gone);
        assert_eq!(
            consume(403),
            Some(NeedsOperator::MayNotConsume { object: object() })
        );
        assert_eq!(consume(404), gone);
        for code in [320, 405, 406, 501, 506, 541] {
            assert_eq!(connect(code), None, "{code}");
            assert_eq!(consume(code), None, "{code}");
            let over_limit = NeedsOperator::OverLimit {
                object: object(),
                reason: "because".to_owned(),
            };
            assert_eq!(declare(code), (code == 406).then_some(over_limit), "{code}");
        }
        assert_eq!(
            verdict(SessionError::Publish(closed_with(403))),
            Some(NeedsOperator::MayNotPublish)
        );
        assert_eq!(verdict(SessionError::Publish(closed_with(404))), None);
        for code in [403, 404, 530] {
            assert_eq!(
                verdict(SessionError::Lost(closed_with(code))),
                None,
                "{code}"
            );
        }
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert_eq!(verdict(connecting(refused.into())), None);
        assert_eq!(verdict(SessionError::Silent(Duration::from_secs(1))), None);
    }

    #[test]
    fn one_object_is_refused_where_the_connection_stays() {
        for (code, refused) in [
            (403, true),
            (405, true),
            (406, true),
            (320, false),
            (541, false),
        ] {
            let error = SessionError::Declare {
                object: "queue q".to_owned(),
                error: closed_with(code),
            };
            let refusal = NeedsOperator::Refused {
                object: "queue q".to_owned(),
                reason: "because".to_owned(),
            };
            assert_eq!(error.refusal(), refused.then_some(refusal), "{code}");
            assert_eq!(
                SessionError::Lost(closed_with(code)).refusal(),
                None,
                "{code}"
            );
        }
    }

    #[test]
    fn a_sentence_names_the_thing_and_the_fix() {
        let declare = SessionError::Declare {
            object: "queue webpush.due.high".to_owned(),
            error: closed_with(403),
        };
        let sentence = declare.needs_operator(Declare::Create).unwrap();
        let sentence = sentence.to_string();
        assert!(sentence.contains("queue webpush.due.high"), "{sentence}");
        assert!(sentence.contains("broker.declare"), "{sentence}");
    }
}
