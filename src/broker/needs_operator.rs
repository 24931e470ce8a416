//! What only an operator can mend, each with a sentence that says how.

/// Why running on is useless until an operator acts: exit code 78.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NeedsOperator {
    /// The URL cannot be read.
    #[error("the AMQP URL {0}")]
    MalformedUrl(String),
    /// Any of the others, at one of several hosts.
    #[error("{host}: {act}")]
    AtHost {
        /// The host and its port.
        host: String,
        /// What to do there.
        act: Box<NeedsOperator>,
    },
    /// The extra certificates cannot be read.
    #[error("the CA file of the broker holds no readable PEM certificate")]
    UnreadableCa,
    /// `check`: there is no connection to the broker, or it broke.
    #[error("{reason}")]
    Unreachable {
        /// What is the matter, and what to do.
        reason: String,
    },
    /// 403 at login as `guest`, which RabbitMQ lets in from its own machine alone (`loopback_users`).
    #[error(
        "the broker refuses the user guest (403): guest may only connect from the broker's own machine; \
         make a user (`rabbitmqctl add_user`, `rabbitmqctl set_permissions`) and write it into the AMQP \
         URL, or on that machine check the password"
    )]
    GuestRefused,
    /// 403 at login as any other user.
    #[error(
        "the broker refuses the user name or the password (403): check both in the AMQP URL, and \
         with `rabbitmqctl authenticate_user`"
    )]
    LoginRefused,
    /// 403 at a login by certificate (SASL EXTERNAL).
    #[error(
        "the broker refuses the user that the client certificate names (403): make a user of that name \
         (`rabbitmqctl add_user`, `rabbitmqctl set_permissions`; its log has the name), which is the \
         common name where the broker has ssl_cert_login_from = common_name, else the whole subject"
    )]
    CertificateRefused,
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
