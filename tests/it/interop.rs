//! Other people's Web Push, against which ours is held: what pushrider encrypts and signs is read by
//! npm's `http_ece` and PyPI's `http-ece` and `py-vapid`, and the sandbox takes what npm's `web-push`
//! and PyPI's `pywebpush` send. The packages are put in place by `tests/run.sh`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use aws_lc_rs::encoding::{AsBigEndian, EcPrivateKeyBin};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use pushrider::clock::{Clock as _, SystemClock};
use pushrider::ece::{Salt, SenderKey, aes128gcm};
use pushrider::message::Name;
use pushrider::sandbox;
use pushrider::subscription::{
    AuthSecret, Endpoint, Keys, UserAgentKey, decode_base64, encode_base64url,
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

fn vapid_key() -> VapidKey {
    VapidKey::generate(Name::parse("interop").unwrap()).unwrap()
}

/// Encrypts a payload for a new user agent; returns what that one needs to read it.
fn encrypted(payload: &[u8]) -> Value {
    let private = PrivateKey::generate(&ECDH_P256).unwrap();
    let scalar: EcPrivateKeyBin<'_> = private.as_be_bytes().unwrap();
    let public = private.compute_public_key().unwrap();
    let auth = [7; 16];
    let keys = Keys {
        p256dh: UserAgentKey::from_bytes(public.as_ref()).unwrap(),
        auth: AuthSecret::new(auth),
    };
    let body = aes128gcm::encrypt(
        &keys,
        payload,
        0,
        SenderKey::generate().unwrap(),
        Salt::random().unwrap(),
    );
    json!({
        "private_key": encode_base64url(scalar.as_ref()),
        "auth": encode_base64url(&auth),
        "body": encode_base64url(&body.unwrap()),
    })
}

#[tokio::test]
async fn what_we_encrypt_and_sign_is_read_by_other_peoples_code() {
    let payloads: Vec<Vec<u8>> = [0, 1, 300, 3993]
        .map(|length: usize| (0..=u8::MAX).cycle().take(length).collect())
        .into();
    let endpoint = Endpoint::parse("https://push.example.net:8443/push/token").unwrap();
    let now = SystemClock.now().wall;
    let token = Token::sign(
        &vapid_key(),
        endpoint.origin(),
        &Subject::parse("mailto:push@example.net").unwrap(),
        now,
        Validity::default(),
    );
    let token = token.unwrap();
    let cases: Vec<_> = payloads.iter().map(|payload| encrypted(payload)).collect();
    let authorization = token.authorization().to_str().unwrap();
    let input = json!({ "cases": cases, "authorization": authorization });
    for foreign in FOREIGN {
        let answer = foreign.run("decrypt", &input, None).await;
        let plaintexts = answer["plaintexts"].as_array().unwrap();
        assert_eq!(plaintexts.len(), payloads.len());
        for (plaintext, payload) in plaintexts.iter().zip(&payloads) {
            let plaintext = decode_base64(plaintext.as_str().unwrap()).unwrap();
            assert!(
                &plaintext == payload,
                "{foreign:?}: {} bytes",
                payload.len()
            );
        }
        let claims = &answer["claims"];
        assert_eq!(claims["aud"], "https://push.example.net:8443");
        assert_eq!(claims["sub"], "mailto:push@example.net");
        assert_eq!(claims["exp"], seconds(now) + 12 * 3600);
    }
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
    for foreign in FOREIGN {
        let subscription = sandbox.subscribe(sandbox::Wish::default()).unwrap();
        let payload = format!("grüße von {foreign:?}");
        let input = json!({ "subscription": subscription, "payload": payload });
        let answer = foreign.run("send", &input, Some(&ca)).await;
        assert_eq!(answer["status"], 201, "{foreign:?}");

        let messages = sandbox.messages(Some(&subscription.id));
        let [message] = messages.as_slice() else {
            panic!("{foreign:?}: {messages:?}");
        };
        assert_eq!(message.error, None, "{foreign:?}");
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
