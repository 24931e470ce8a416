//! A real Prometheus that scrapes one daemon.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use url::form_urlencoded;

use super::node::free_ports;

/// A Prometheus with a folder of its own; it ends when this is dropped.
pub(crate) struct Prometheus {
    port: u16,
    _folder: TempDir,
    _child: Child,
}

impl Prometheus {
    /// Starts one with the alerts of the repository, which looks at the daemon each second.
    pub(crate) fn start(daemon: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/prometheus-alerts.yml");
        // JSON is YAML.
        let config = serde_json::json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": [rules],
            "scrape_configs": [{
                "job_name": "pushrider",
                "static_configs": [{ "targets": [daemon.to_string()] }],
            }],
        });
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, config.to_string()).unwrap();
        let [port] = free_ports();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--log.level=error")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("prometheus can be run; tests/run.sh installs it");
        Self {
            port,
            _folder: folder,
            _child: child,
        }
    }

    /// Returns the series of an expression.
    pub(crate) async fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let query: String = form_urlencoded::byte_serialize(expression.as_bytes()).collect();
        let mut data = self.get(&format!("/api/v1/query?query={query}")).await?;
        serde_json::from_value(data["result"].take()).map_err(|error| error.to_string())
    }

    /// Returns the rules and how they are.
    pub(crate) async fn rules(&self) -> Result<Vec<Value>, String> {
        let data = self.get("/api/v1/rules").await?;
        let groups = data["groups"].as_array().ok_or("no groups")?;
        let rules = groups.iter().filter_map(|group| group["rules"].as_array());
        Ok(rules.flatten().cloned().collect())
    }

    async fn get(&self, path: &str) -> Result<Value, String> {
        let exchange = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
            // HTTP/1.0 ends the answer with the connection.
            let head = format!("GET {path} HTTP/1.0\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = exchange.await.map_err(|error| error.to_string())?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("no head")?;
        let mut body: Value = serde_json::from_str(body).map_err(|_| answer.clone())?;
        if body["status"] == "success" {
            Ok(body["data"].take())
        } else {
            Err(body.to_string())
        }
    }
}
