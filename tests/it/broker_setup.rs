//! Declaring, permissions, and what makes an operator act.

use std::time::Duration;

use pushrider::broker::{Declare, Inspected, NeedsOperator, Settings, check};
use pushrider::secret::Secret;

use crate::support::broker::{Broker, READER, RUNNER};
use crate::support::echo::{Echo, RESULTS, result, results, settings};
use crate::support::proxy::TcpProxy;
use crate::support::vhost::{Vhost, arguments};
use crate::support::{eventually, wanted};

const SECONDS: Duration = Duration::from_secs(10);

/// Passes one event through the module.
async fn passes_an_event(vhost: &Vhost, echo: &Echo) {
    echo.consumes().await;
    results(vhost).await;
    vhost
        .publish("webpush.events", "shop.default", b"hello")
        .await;
    eventually(SECONDS, async || {
        wanted(vhost.take_texts(RESULTS).await, |bodies| {
            bodies == &["hello"]
        })
    })
    .await;
}

async fn declared(vhost: &Vhost) {
    let echo = Echo::start(settings(vhost.url()), result);
    echo.consumes().await;
    echo.stop().await;
}

fn with(url: String, declare: Declare) -> Settings {
    Settings {
        declare,
        ..settings(url)
    }
}

#[tokio::test]
async fn the_topology_is_declared_and_declared_again() {
    let vhost = Broker::shared().vhost();
    declared(&vhost).await;
    let echo = Echo::start(settings(vhost.url()), result);
    passes_an_event(&vhost, &echo).await;
    echo.stop().await;
    for queue in [
        "webpush.lane.default",
        "webpush.due.default",
        "webpush.delay.50ms",
        "webpush.delay.400ms",
        "webpush.undeliverable",
        "webpush.quarantine",
        "webpush.unrouted",
        "webpush.dead-subscriptions",
        "webpush.resubscribe",
    ] {
        assert_eq!(vhost.depth(queue).await, 0, "{queue}");
    }
}

#[tokio::test]
async fn an_event_whose_key_matches_no_lane_is_taken_once() {
    let vhost = Broker::shared().vhost();
    let echo = Echo::start(settings(vhost.url()), result);
    passes_an_event(&vhost, &echo).await;
    for (key, body) in [
        ("", "no key"),
        ("shop.unknown", "no lane"),
        ("a.b.c", "long"),
    ] {
        vhost.publish("webpush.events", key, body.as_bytes()).await;
        eventually(SECONDS, async || {
            wanted(vhost.take_texts(RESULTS).await, |bodies| bodies == &[body])
        })
        .await;
    }
    echo.stop().await;
}

#[tokio::test]
async fn a_user_who_may_declare_nothing_runs_on_a_topology_that_exists() {
    let vhost = Broker::shared().vhost();
    declared(&vhost).await;
    for declare in [Declare::Passive, Declare::None] {
        let echo = Echo::start(with(vhost.url_of(RUNNER, vhost.port()), declare), result);
        passes_an_event(&vhost, &echo).await;
        echo.stop().await;
    }
}

#[tokio::test]
async fn a_queue_with_other_arguments_is_used_as_it_is() {
    let vhost = Broker::shared().vhost();
    let own = arguments(&[("x-queue-type", "quorum"), ("x-delivery-limit", "7")]);
    vhost.queue("webpush.lane.default", own).await;
    vhost.queue("webpush.delay.150ms", arguments(&[])).await;
    let echo = Echo::start(settings(vhost.url()), result);
    passes_an_event(&vhost, &echo).await;
    echo.stop().await;
    let findings = check(&settings(vhost.url())).await.unwrap();
    assert_eq!(findings.problems, [""; 0]);
    let different = findings.different;
    assert_eq!(different.len(), 2, "{different:?}");
    for (text, queue, argument) in [
        (
            &different[0],
            "queue webpush.lane.default ",
            "configured is ",
        ),
        (
            &different[1],
            "queue webpush.delay.150ms ",
            "x-message-ttl is none, configured is 150",
        ),
    ] {
        assert!(text.starts_with(queue) && text.contains(argument), "{text}");
    }
}

#[tokio::test]
async fn an_operator_is_called_where_trying_again_cannot_help() {
    let vhost = Broker::shared().vhost();
    let port = vhost.port();
    let ended = async |settings| Echo::start(settings, result).ended().await.unwrap_err();
    let runner = vhost.url_of(RUNNER, port);
    assert!(matches!(
        ended(with("http://nowhere".to_owned(), Declare::Create)).await,
        NeedsOperator::MalformedUrl(_)
    ));
    assert_eq!(
        ended(settings(vhost.url_of("nobody", port))).await,
        NeedsOperator::LoginRefused
    );
    assert_eq!(
        ended(settings(format!("amqp://127.0.0.1:{port}/no-such-vhost"))).await,
        NeedsOperator::VhostRefused {
            vhost: "no-such-vhost".to_owned()
        }
    );
    assert!(matches!(
        ended(with(runner.clone(), Declare::Create)).await,
        NeedsOperator::MayNotDeclare { object } if object == "queue webpush.quarantine"
    ));
    assert!(matches!(
        ended(with(runner.clone(), Declare::Passive)).await,
        NeedsOperator::Missing { object, .. } if object == "queue webpush.quarantine"
    ));
    assert!(matches!(
        ended(with(runner, Declare::None)).await,
        NeedsOperator::Missing { object, declare: "none" }
            if object == "queue webpush.lane.default"
    ));
}

#[tokio::test]
async fn a_limit_of_the_virtual_host_is_not_taken_for_a_missing_queue() {
    let broker = Broker::shared();
    let vhost = broker.vhost();
    let limit = |limits| broker.control(&["set_vhost_limits", "-p", vhost.name(), limits]);
    limit(r#"{"max-queues": 3}"#);
    let ended = Echo::start(settings(vhost.url()), result).ended().await;
    let said = ended.unwrap_err().to_string();
    for part in [
        "queue webpush.dead-subscriptions",
        "queue limit in vhost",
        "set_vhost_limits",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    limit(r#"{"max-queues": -1}"#);
    passes_an_event(&vhost, &Echo::start(settings(vhost.url()), result)).await;
}

#[tokio::test]
async fn a_user_who_may_not_publish_costs_no_event_its_attempts() {
    let vhost = Broker::shared().vhost();
    declared(&vhost).await;
    results(&vhost).await;
    vhost
        .publish("webpush.events", "shop.default", b"one")
        .await;
    let reader = with(vhost.url_of(READER, vhost.port()), Declare::Passive);
    let ended = Echo::start(reader, result).ended().await;
    assert_eq!(ended, Err(NeedsOperator::MayNotPublish));
    let echo = Echo::start(settings(vhost.url()), result);
    eventually(SECONDS, async || {
        wanted(vhost.take_texts(RESULTS).await, |bodies| bodies == &["one"])
    })
    .await;
    echo.stop().await;
}

#[tokio::test]
async fn check_changes_nothing_and_names_what_is_missing() {
    let vhost = Broker::shared().vhost();
    let create = settings(vhost.url());
    let passive = with(vhost.url(), Declare::Passive);
    let new = check(&create).await.unwrap();
    assert_eq!((new.there, new.problems), (0, Vec::new()));
    assert!(
        new.undeclared
            .contains(&"queue webpush.due.default".to_owned())
    );
    let missing = check(&passive).await.unwrap().problems;
    assert!(missing.contains(&"queue webpush.due.default does not exist".to_owned()));
    assert!(missing.contains(&"exchange webpush.delay.50ms does not exist".to_owned()));
    declared(&vhost).await;
    for declared in [create, passive] {
        let found = check(&declared).await.unwrap();
        assert!(found.product.is_some());
        assert_eq!(
            found,
            Inspected {
                product: found.product.clone(),
                there: new.undeclared.len(),
                ..Inspected::default()
            }
        );
    }
    let refused = check(&settings(vhost.url_of(RUNNER, vhost.port())))
        .await
        .unwrap()
        .problems;
    assert!(
        refused[0].contains("403") || refused[0].contains("ACCESS_REFUSED"),
        "{refused:?}"
    );
    assert_eq!(
        check(&settings(vhost.url_of("nobody", vhost.port()))).await,
        Err(NeedsOperator::LoginRefused)
    );
    let [port] = crate::support::node::free_ports();
    assert!(matches!(
        check(&settings(format!("amqp://127.0.0.1:{port}"))).await,
        Err(NeedsOperator::Unreachable { .. })
    ));
}

#[tokio::test]
async fn a_broker_that_is_not_there_yet_is_waited_for() {
    let vhost = Broker::shared().vhost();
    let proxy = TcpProxy::to(vhost.port()).await;
    proxy.refuse(true);
    let echo = Echo::start(settings(vhost.url_of("guest", proxy.port())), result);
    echo.is(|state| !state.connected && state.problem.is_some())
        .await;
    proxy.refuse(false);
    passes_an_event(&vhost, &echo).await;
    assert_eq!(echo.state.borrow().problem, None);
    echo.stop().await;
}

#[tokio::test]
async fn a_peer_that_accepts_and_stays_silent_leaves_no_thread_behind() {
    let vhost = Broker::shared().vhost();
    let proxy = TcpProxy::to(vhost.port()).await;
    proxy.freeze(crate::support::proxy::Way::Down, true);
    let url = vhost.url_of("guest", proxy.port());
    let impatient = Settings {
        connect_timeout: Duration::from_millis(200),
        ..settings(url)
    };
    for _ in 0..5 {
        let silent = check(&impatient).await.unwrap_err();
        assert!(silent.to_string().contains("no AMQP handshake"), "{silent}");
    }
    let mine = format!(":{:04X}", proxy.port());
    eventually(SECONDS, async || {
        let sockets = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        let open = sockets.lines().filter(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            // The client's end of the proxy, established.
            fields[2].ends_with(&mine) && fields[3] == "01"
        });
        wanted(open.count(), |&open| open == 0)
    })
    .await;
}

#[tokio::test]
async fn amqps_is_encrypted_and_the_certificate_is_verified() {
    let broker = Broker::shared();
    let vhost = broker.vhost();
    let trusting = Settings {
        ca: Some(broker.ca.clone()),
        ..settings(vhost.tls_url())
    };
    assert_eq!(check(&trusting).await.unwrap().problems, [""; 0]);
    let echo = Echo::start(trusting.clone(), result);
    passes_an_event(&vhost, &echo).await;
    echo.stop().await;
    let distrusting = check(&settings(vhost.tls_url())).await.unwrap_err();
    assert!(
        matches!(distrusting, NeedsOperator::Unreachable { .. }),
        "{distrusting}"
    );
    let plain_port = Settings {
        urls: vec![Secret::new(vhost.url().replace("amqp://", "amqps://"))],
        ..trusting
    };
    assert!(check(&plain_port).await.is_err());
}
