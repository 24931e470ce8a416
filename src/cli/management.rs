//! Reads queues and policies from RabbitMQ's management API.

use std::sync::Arc;

use reqwest::{Client, StatusCode, redirect};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use url::Url;

use super::failure::Failure;
use crate::broker::{self, Definitions, Export, Settings};

/// The largest answer that is read, in bytes.
const ANSWER_LIMIT: usize = 64 << 20;

/// Reads the queues and policies of the virtual host of the AMQP URL.
pub(super) async fn read(settings: &Settings, mut url: Url) -> Result<Export, Failure> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Failure::usage(
            "the URL of --management must begin with http:// or https://",
        ));
    }
    if url.username().is_empty() {
        let (user, password) = broker::login(settings)?;
        let set = url.set_username(&user);
        let set = set.and_then(|()| url.set_password(Some(password.expose())));
        set.map_err(|()| Failure::usage("the URL of --management names no host"))?;
    }
    let vhost = Definitions::new(settings)?.vhost;
    let client = client(settings)?;
    let list = async |what: &str| {
        let mut url = url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", what, &vhost]);
        }
        get(&client, url, what).await
    };
    let (queues, policies, operator) = (
        list("queues").await?,
        list("policies").await?,
        list("operator-policies").await?,
    );
    let export = Export::from_lists(&queues, &policies, &operator);
    export.map_err(|error| Failure::new(error.to_string()))
}

fn client(settings: &Settings) -> Result<Client, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let ca = settings.ca.as_deref().unwrap_or_default();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(ca.as_bytes()).flatten());
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| Failure::new(format!("TLS cannot be set up: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = Client::builder()
        .tls_backend_preconfigured(config)
        .http1_only()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .timeout(settings.confirm_timeout)
        .build();
    client.map_err(|error| failed(error, "cannot be asked"))
}

async fn get(client: &Client, url: Url, what: &str) -> Result<Vec<u8>, Failure> {
    let unreachable = |error| failed(error, "does not answer");
    let mut response = client.get(url).send().await.map_err(unreachable)?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            return Err(Failure::operator(
                "the management API refuses the user: check the user and the password, and that the \
                 user has the tag management (`rabbitmqctl set_user_tags`)",
            ));
        }
        status => {
            return Err(Failure::operator(format!(
                "the management API answers {status} for {what}: check the URL of --management and \
                 the virtual host of the AMQP URL"
            )));
        }
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > ANSWER_LIMIT {
            return Err(Failure::new(format!(
                "the management API answers with more than {ANSWER_LIMIT} bytes for {what}"
            )));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Describes an error without the URL, which holds the password.
fn failed(error: reqwest::Error, what: &str) -> Failure {
    let error = error.without_url();
    let mut text = format!("the management API {what}: {error}");
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    Failure::new(text)
}
