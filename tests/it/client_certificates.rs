//! Mutual TLS with a private CA, and SASL EXTERNAL.

use std::fs;
use std::time::Duration;

use pushrider::broker::{ClientCertificate, NeedsOperator, Settings, check};
use tempfile::TempDir;

use crate::support::broker::Broker;
use crate::support::echo::{Echo, result, settings};
use crate::support::{eventually, wanted};

/// The broker asks for a certificate and refuses to go on without.
const STRICT: &str = "ssl_options.verify = verify_peer\n\
                      ssl_options.fail_if_no_peer_cert = true\n\
                      ssl_cert_login_from = common_name\n\
                      auth_mechanisms.1 = EXTERNAL\n\
                      auth_mechanisms.2 = PLAIN\n";

/// A folder with the client's certificate and key.
struct Files(TempDir);

impl Files {
    fn new(pair: (String, String)) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write(pair);
        files
    }

    fn write(&self, (certificate, key): (String, String)) {
        let ClientCertificate {
            certificate: at,
            key: key_at,
        } = self.paths();
        fs::write(at, certificate).unwrap();
        fs::write(key_at, key).unwrap();
    }

    fn paths(&self) -> ClientCertificate {
        ClientCertificate {
            certificate: self.0.path().join("client.pem"),
            key: self.0.path().join("client-key.pem"),
        }
    }
}

fn offering(files: &Files, url: String, ca: &str) -> Settings {
    Settings {
        ca: Some(ca.to_owned()),
        client: Some(files.paths()),
        ..settings(url)
    }
}

async fn problem(settings: &Settings) -> String {
    check(settings).await.unwrap_err().to_string()
}

fn connections(broker: &Broker) -> String {
    broker.control(&["list_connections", "user", "auth_mechanism", "ssl"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_is_offered_and_is_a_login() {
    let broker = Broker::with_plugins("rabbitmq_auth_mechanism_ssl", STRICT);
    let vhost = broker.vhost();
    for user in ["push-one", "push-two"] {
        broker.control(&["add_user", user, "unused"]);
        broker.control(&["clear_password", user]);
        broker.control(&[
            "set_permissions",
            "-p",
            vhost.name(),
            user,
            ".*",
            ".*",
            ".*",
        ]);
    }
    let plain = vhost.tls_url();
    let external = plain.replace("guest:guest@", "") + "?auth_mechanism=external";

    let files = Files::new(broker.issue("push-one"));
    let with_password = offering(&files, plain.clone(), &broker.ca);
    assert_eq!(check(&with_password).await.unwrap().problems.len(), 0);
    let without = Settings {
        client: None,
        ..with_password
    };
    // The alert that tells the reason may be lost.
    let said = problem(&without).await;
    assert!(
        said.contains("set broker.client_certificate_file"),
        "{said}"
    );

    let echo = Echo::start(offering(&files, external.clone(), &broker.ca), result);
    echo.consumes().await;
    let seen = connections(&broker);
    assert!(seen.contains("push-one\tEXTERNAL\ttrue"), "{seen}");

    files.write(broker.issue("push-two"));
    broker.control(&["close_all_connections", "--global", "test"]);
    eventually(Duration::from_secs(30), async || {
        wanted(echo.problems(), |problems| !problems.is_empty())
    })
    .await;
    echo.consumes().await;
    let seen = connections(&broker);
    assert!(seen.contains("push-two\tEXTERNAL\ttrue"), "{seen}");
    echo.stop().await;

    let unknown = Files::new(broker.issue("nobody"));
    let refused = check(&offering(&unknown, external.clone(), &broker.ca)).await;
    assert_eq!(refused, Err(NeedsOperator::CertificateRefused));
    let foreign = Files::new(Broker::shared().issue("push-one"));
    let said = problem(&offering(&foreign, external, &broker.ca)).await;
    assert!(said.contains("ssl_options.cacertfile"), "{said}");
}

#[tokio::test]
async fn a_certificate_and_a_key_that_do_not_fit_are_told_at_each_connect() {
    let broker = Broker::shared();
    let files = Files::new(broker.issue("push-one"));
    let (_, other) = broker.issue("push-one");
    let key = files.paths().key;
    fs::write(&key, other).unwrap();
    let settings = offering(&files, broker.vhost().tls_url(), &broker.ca);
    let said = problem(&settings).await;
    assert!(
        said.starts_with("no client certificate for localhost:"),
        "{said}"
    );
    assert!(said.contains("client-key.pem is not the key of"), "{said}");
    fs::remove_file(&key).unwrap();
    let said = problem(&settings).await;
    assert!(said.contains("cannot read"), "{said}");
}

#[tokio::test]
async fn a_broker_without_the_mechanism_says_so() {
    let broker = Broker::shared();
    let files = Files::new(broker.issue("guest"));
    let url = broker.vhost().tls_url() + "?auth_mechanism=external";
    let said = problem(&offering(&files, url, &broker.ca)).await;
    assert!(said.contains("rabbitmq_auth_mechanism_ssl"), "{said}");
}
