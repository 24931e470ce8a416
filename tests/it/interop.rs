//! Other people's Web Push, against which ours is held: what pushrider encrypts and signs is read by
//! npm's `http_ece` and PyPI's `http-ece` and `py-vapid`, and the sandbox takes what npm's `web-push`
//! and PyPI's `pywebpush` send: each by the RFCs and by the drafts before them. The contract for machines
//! is read by PyPI's `jsonschema` and by AsyncAPI's own parser. The packages are put in place by
//! `tests/run.sh`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use aws_lc_rs::encoding::{AsBigEndian, EcPrivateKeyBin};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use pushrider::cli::schema::Message;
use pushrider::clock::{Clock as _, SystemClock};
use pushrider::ece::{Salt, SenderKey, aes128gcm, aesgcm};
use pushrider::message::{Coding, MediaType, Name, PushMessage, Ttl, Urgency};
use pushrider::push_service;
use pushrider::sandbox;
use pushrider::subscription::{
    AuthSecret, Endpoint, Keys, Subscription, UserAgentKey, decode_base64, encode_base64url,
};
use pushrider::vapid::{Subject, Token, Validity, VapidKey};

/// A foreign implementation and where its script and packages are.
#[derive(Clone, Copy, Debug)]
enum Foreign {
    Node,
    Python,
}

impl Foreign {
    /// Runs `tests/interop/<script>` with `input`, trusting the certificates in `ca`.
    async fn run(self, script: &str, input: &Value, ca: Option<&Path>) -> Value {
        let packages = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("interop");
        let (interpreter, modules, suffix) = match self {
            Self::Node => (PathBuf::from("node"), packages.join("node_modules"), "js"),
            Self::Python => (packages.join("python/bin/python"), packages.clone(), "py"),
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/interop")
            .join(format!("{script}.{suffix}"));
        let mut command = Command::new(interpreter);
        command
            .arg(&script)
            .env("NODE_PATH", &modules)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        for variable in ["NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE"] {
            command.env_remove(variable);
            command.envs(ca.map(|ca| (variable, ca)));
        }
        let run = "missing packages; run tests/run.sh, which puts them in place";
        assert!(modules.exists(), "{}: {run}", modules.display());
        let mut child = command
            .spawn()
            .unwrap_or_else(|e| panic!("{self:?}: {e}; {run}"));
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.to_string().as_bytes()).await.unwrap();
        drop(stdin);
        let output = timeout(Duration::from_secs(60), child.wait_with_output());
        let output = output.await.expect("it ends within a minute").unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {errors}", script.display());
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

const FOREIGN: [Foreign; 2] = [Foreign::Node, Foreign::Python];

/// A user agent, as the foreign decoders are told of it.
struct UserAgent {
    keys: Keys,
    secrets: Value,
}

impl UserAgent {
    fn new() -> Self {
        let private = PrivateKey::generate(&ECDH_P256).unwrap();
        let scalar: EcPrivateKeyBin<'_> = private.as_be_bytes().unwrap();
        let public = private.compute_public_key().unwrap();
        let auth = [7; 16];
        Self {
            keys: Keys {
                p256dh: UserAgentKey::from_bytes(public.as_ref()).unwrap(),
                auth: AuthSecret::new(auth),
            },
            secrets: json!({
                "private_key": encode_base64url(scalar.as_ref()),
                "auth": encode_base64url(&auth),
            }),
        }
    }
}

/// The request of a payload, and what its user agent needs to read it.
fn sealed(signer: &Signer, coding: Coding, payload: &[u8], padding: usize) -> Value {
    let UserAgent { keys, secrets } = UserAgent::new();
    let (sender, salt) = (SenderKey::generate().unwrap(), Salt::random().unwrap());
    let message = PushMessage {
        subscription: Subscription {
            endpoint: signer.endpoint.clone(),
            keys: None,
        },
        content: None,
        coding,
        ttl: Ttl::ONE,
        urgency: Urgency::Normal,
        topic: None,
        media_type: MediaType::OctetStream,
    };
    let token = &signer.token;
    let request = match coding {
        Coding::Aes128Gcm => {
            let body = aes128gcm::encrypt(&keys, payload, padding, sender, salt).unwrap();
            push_service::build(&message, Some(body), token.authorization())
        }
        Coding::AesGcm => {
            let sealed = aesgcm::encrypt(&keys, payload, padding, sender, salt).unwrap();
            let public_key = signer.key.public_key_base64url();
            push_service::build_draft(&message, sealed, token.draft_01(), public_key)
        }
    };
    let header = |name| request.headers.get(name).map(|it| it.to_str().unwrap());
    json!({
        "user_agent": secrets,
        "content_encoding": header("content-encoding"),
        "authorization": header("authorization"),
        "encryption": header("encryption"),
        "crypto_key": header("crypto-key"),
        "body": encode_base64url(&request.body),
    })
}

/// An application server, and its token for one endpoint.
struct Signer {
    key: VapidKey,
    endpoint: Endpoint,
    token: Token,
}

impl Signer {
    fn new(now: SystemTime) -> Self {
        let key = VapidKey::generate(Name::parse("interop").unwrap()).unwrap();
        let endpoint = Endpoint::parse("https://push.example.net:8443/push/token").unwrap();
        let subject = Subject::parse("mailto:push@example.net").unwrap();
        let validity = Validity::default();
        let token = Token::sign(&key, endpoint.origin(), &subject, now, validity).unwrap();
        Self {
            key,
            endpoint,
            token,
        }
    }
}

#[tokio::test]
async fn what_we_encrypt_and_sign_is_read_by_other_peoples_code() {
    let now = SystemClock.now().wall;
    let signer = Signer::new(now);
    let cases = [
        (Coding::Aes128Gcm, 0, 0),
        (Coding::Aes128Gcm, 1, 0),
        (Coding::Aes128Gcm, 300, 0),
        (Coding::Aes128Gcm, 300, 212),
        (Coding::Aes128Gcm, 1, 3992),
        (Coding::Aes128Gcm, 3993, 0),
        (Coding::AesGcm, 0, 0),
        (Coding::AesGcm, 1, 0),
        (Coding::AesGcm, 300, 0),
        (Coding::AesGcm, 300, 212),
        (Coding::AesGcm, 1, 4076),
        (Coding::AesGcm, 3993, 0),
        (Coding::AesGcm, 4077, 0),
    ];
    let payload = |length| -> Vec<u8> { (0..=u8::MAX).cycle().take(length).collect() };
    let requests: Vec<_> = cases
        .iter()
        .map(|(coding, length, padding)| sealed(&signer, *coding, &payload(*length), *padding))
        .collect();
    for foreign in FOREIGN {
        let answer = foreign.run("decrypt", &json!(requests), None).await;
        let read = answer.as_array().unwrap();
        assert_eq!(read.len(), cases.len());
        for (read, case) in read.iter().zip(&cases) {
            let plaintext = decode_base64(read["plaintext"].as_str().unwrap()).unwrap();
            assert!(plaintext == payload(case.1), "{foreign:?}: {case:?}");
            let claims = &read["claims"];
            assert_eq!(claims["aud"], "https://push.example.net:8443");
            assert_eq!(claims["sub"], "mailto:push@example.net");
            assert_eq!(claims["exp"], seconds(now) + 12 * 3600);
        }
    }
}

#[tokio::test]
async fn the_contract_is_read_by_other_peoples_validators() {
    let parsed = |message: Message| -> Value { serde_json::from_str(message.schema()).unwrap() };
    let input = json!({
        "schemas": {
            "event": parsed(Message::Event),
            "result": parsed(Message::Result),
            "summary": parsed(Message::Summary),
            "subscription": parsed(Message::Subscription),
            "progress": parsed(Message::Progress),
            "control": parsed(Message::Control),
        },
        "events": [
            { "$schema": "./event.json", "subscription": { "endpoint": "https://push.example.net/x" } },
            { "subscription": { "endpoint": "https://push.example.net/x" }, "tll": 60 },
            { "payload": "hello" },
        ],
    });
    let answer = Foreign::Python.run("schemas", &input, None).await;
    let valid = json!([
        "control",
        "event",
        "progress",
        "result",
        "subscription",
        "summary"
    ]);
    assert_eq!(
        answer,
        json!({ "valid": valid, "events": [true, false, false] })
    );

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/asyncapi.json");
    let input = json!({ "path": path });
    let answer = Foreign::Node.run("asyncapi", &input, None).await;
    let operations = [
        "receiveEvent",
        "receiveControl",
        "sendResult",
        "sendSummary",
        "sendProgress",
        "sendSubscriptionEvent",
    ];
    assert_eq!(answer, json!({ "errors": [], "operations": operations }));
}

/// Returns the documents of a YAML stream.
pub(crate) async fn yaml(text: &str) -> Vec<Value> {
    let answer = Foreign::Node
        .run("yaml", &json!({ "text": text }), None)
        .await;
    answer["documents"].as_array().unwrap().clone()
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn the_sandbox_takes_what_other_people_send_and_we_take_their_keys() {
    let sandbox = sandbox::start(sandbox::Settings::default()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, sandbox.ca_pem()).unwrap();
    for (foreign, coding) in [
        (Foreign::Node, Coding::Aes128Gcm),
        (Foreign::Node, Coding::AesGcm),
        (Foreign::Python, Coding::Aes128Gcm),
        (Foreign::Python, Coding::AesGcm),
    ] {
        let subscription = sandbox
            .subscribe(sandbox::SubscribeRequest::default())
            .unwrap();
        let payload = format!("grüße von {foreign:?}");
        let coding = coding.name();
        let input = json!({
            "subscription": subscription, "payload": payload, "content_encoding": coding,
        });
        let answer = foreign.run("send", &input, Some(&ca)).await;
        assert_eq!(answer["status"], 201, "{foreign:?} {coding}");

        let messages = sandbox.messages(Some(&subscription.id));
        let [message] = messages.as_slice() else {
            panic!("{foreign:?} {coding}: {messages:?}");
        };
        assert_eq!(message.error, None, "{foreign:?} {coding}");
        assert_eq!(message.content_encoding.as_deref(), Some(coding));
        assert_eq!(message.text.as_deref(), Some(payload.as_str()));
        assert_eq!(message.urgency.as_deref(), Some("high"));
        assert_eq!(message.topic.as_deref(), Some("interop"));
        assert_eq!(message.key.as_deref(), answer["public_key"].as_str());

        let private_key = answer["private_key"].as_str().unwrap();
        let name = Name::parse("theirs").unwrap();
        let key = VapidKey::parse(name, private_key.as_bytes()).unwrap();
        assert_eq!(key.public_key_base64url(), answer["public_key"]);
    }
    sandbox.stop().await;
}
