//! The sandbox from outside: a real client over real TLS.

use std::error::Error as _;
use std::pin::pin;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName};
use reqwest::{Client, Response};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Message, Running, Script, Settings, SubscribeRequest, SubscriptionJson, start};
use crate::clock::{Clock as _, SystemClock};
use crate::origin::Service;

mod lives;
mod page;
mod pushes;
mod scripts;
pub(super) mod sender;

use self::sender::Sender;

/// A sandbox, an application server and its HTTP client.
struct World {
    sandbox: Running,
    sender: Sender,
    client: Client,
}

async fn world() -> World {
    world_of(Settings::default()).await
}

async fn world_of(settings: Settings) -> World {
    let http2 = settings.http2;
    let sandbox = start(settings).await.unwrap();
    World {
        client: client(sandbox.ca_pem(), http2),
        sender: Sender::new(),
        sandbox,
    }
}

fn client(ca: &str, http2: bool) -> Client {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap())
        .unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let mut tls = rustls::ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let alpn = if http2 { "h2" } else { "http/1.1" };
    tls.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .build()
        .unwrap()
}

fn script(json: Value) -> Script {
    Script::try_from(json).unwrap()
}

impl World {
    fn subscribe(&self, answer: Value) -> SubscriptionJson {
        self.sandbox.subscribe(script(answer)).unwrap()
    }

    async fn push(&self, to: &SubscriptionJson, text: &str) -> reqwest::Result<Response> {
        self.push_with(to, text, |_| ()).await
    }

    async fn push_with(
        &self,
        to: &SubscriptionJson,
        text: &str,
        change: impl FnOnce(&mut HeaderMap),
    ) -> reqwest::Result<Response> {
        let url = url::Url::parse(&to.endpoint).unwrap();
        let origin = url.origin().ascii_serialization();
        let (mut headers, body) = self.sender.request(&origin, &to.keys, text.as_bytes());
        change(&mut headers);
        self.client
            .post(url)
            .headers(headers)
            .body(body)
            .send()
            .await
    }

    fn last(&self, of: &SubscriptionJson) -> Message {
        let messages = self.sandbox.messages(Some(&of.id));
        Message::clone(messages.last().unwrap())
    }
}

/// Reads a body to its end, which must be near.
async fn text(mut response: Response) -> String {
    let mut text = Vec::new();
    while let Some(chunk) = response.chunk().await.unwrap() {
        text.extend_from_slice(&chunk);
    }
    String::from_utf8(text).unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers()[name].to_str().unwrap()
}

/// Finds the HTTP/2 stack's own words in an error.
fn of_h2(error: &reqwest::Error) -> &h2::Error {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref() {
            return found;
        }
        source = error.source();
    }
    panic!("{error:?}");
}
