//! Why connections to the broker end, and whether an operator must act.
//!
//! Most errors pass: the network, a broker that restarts or is not up yet. Some do not pass until an
//! operator acts. None of these values carries a secret: URLs are not quoted, and lapin's parse
//! errors, which may show bytes of a message, are replaced by a sentence.

use std::time::Duration;

use lapin::ErrorKind;
use lapin::protocol::AMQPErrorKind;

use crate::broker::Declare;
use crate::broker::connect_error::ConnectError;
use crate::broker::needs_operator::NeedsOperator;
use crate::broker::object::Object;
use crate::broker::reply::{
    ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED, Plain, reply_code, words,
};

/// Why a generation of connections ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    /// The connection could not be made.
    #[error(transparent)]
    Connect(#[from] Box<ConnectError>),
    /// No host of several takes a connection.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    NoHost(Vec<ConnectError>),
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
            Self::Connect(error) => error.needs_operator(),
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
            Self::NoHost(_)
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
