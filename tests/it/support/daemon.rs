//! The real binary, as a service manager would run it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pushrider::origin::Service;
use pushrider::sandbox::Running;
use pushrider::vapid::VapidKey;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use url::Url;

use super::{eventually, wanted};

/// How long a daemon may take to start, or to stop when nothing holds it.
const PATIENCE: Duration = Duration::from_secs(20);

/// A configured daemon, running or not.
pub(crate) struct Daemon {
    directory: TempDir,
    admin: SocketAddr,
    child: Option<Child>,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Configures a daemon for a broker and the origins of a sandbox; `more` is TOML.
    pub(crate) fn new(amqp_url: &str, sandbox: &Running, more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let admin = free_address();
        let key = VapidKey::generate(pushrider::message::Name::parse("main").unwrap()).unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write("ca.pem", sandbox.ca_pem());
        write("vapid.pem", key.to_pkcs8_pem().unwrap().expose());
        let ports: Vec<_> = sandbox
            .origins()
            .iter()
            .filter_map(|origin| port_of(origin))
            .collect();
        // Bands of milliseconds, so that nothing waits long.
        let defaults = format!(
            r#"broker.url = "{amqp_url}"
            delay.bands = ["50ms", "150ms", "400ms", "1s", "4s", "16s"]
            delay.probe = false
            apps.shop.subject = "mailto:ops@example.org"
            keys.main.private_key_file = "vapid.pem"
            push.ca_file = "ca.pem"
            guard.allow = ["127.0.0.0/8"]
            guard.ports = {ports:?}
            admin.listen = "{admin}"
            log.filter = "debug"
            log.format = "json"
            retry.base = "100ms""#
        );
        let key = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
        let theirs: Vec<_> = more.lines().map(key).collect();
        let services: Vec<_> = sandbox
            .origins()
            .iter()
            .zip(sandbox.services())
            .filter(|(_, service)| *service != Service::Other)
            .map(|(origin, service)| format!("services.{origin:?}.as = {:?}", service.name()))
            .collect();
        let ours = defaults.lines().filter(|line| !theirs.contains(&key(line)));
        let ours = ours.chain(services.iter().map(String::as_str));
        let lines: Vec<_> = ours.chain(more.lines()).map(str::trim).collect();
        write("pushrider.toml", &lines.join("\n"));
        Self {
            directory,
            admin,
            child: None,
            log: Arc::default(),
            reader: None,
        }
    }

    /// Adds lines to its configuration, which count from its next start.
    pub(crate) fn configure(&self, more: &str) {
        let path = self.directory.path().join("pushrider.toml");
        let before = fs::read_to_string(&path).unwrap();
        fs::write(path, format!("{before}\n{more}\n")).unwrap();
    }

    /// Sets a key of its configuration, whatever it was before. It counts from its next start or reload.
    pub(crate) fn set(&self, line: &str) {
        let path = self.directory.path().join("pushrider.toml");
        let key = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
        let before = fs::read_to_string(&path).unwrap();
        let others = before.lines().filter(|it| key(it) != key(line));
        let lines: Vec<_> = others.chain([line]).collect();
        // At once, because it may be read now.
        let new = self.directory.path().join("pushrider.new");
        fs::write(&new, lines.join("\n")).unwrap();
        fs::rename(new, path).unwrap();
    }

    /// Asks it to reload its configuration.
    pub(crate) fn hang_up(&self) {
        self.signal("-HUP");
    }

    /// Has it reload its configuration, and waits until it has.
    pub(crate) async fn reload(&self, result: &str) {
        let label = format!("result={result:?}");
        let count = async || self.metric("pushrider_config_reloads_total", &label).await;
        let before = count().await;
        self.hang_up();
        eventually(PATIENCE, async || {
            wanted(count().await, |count| *count > before)
        })
        .await;
    }

    /// Writes a file into its directory.
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.directory.path().join(name), text).unwrap();
    }

    /// Starts it and waits until it is ready.
    pub(crate) async fn start(&mut self) {
        self.launch().await;
        eventually(PATIENCE, async || {
            let (status, body) = self.get("/readyz").await.map_err(|_| self.log())?;
            wanted((status, body), |(status, _)| *status == 200).map_err(|seen| format!("{seen:?}"))
        })
        .await;
    }

    /// Starts it and waits for nothing.
    pub(crate) async fn launch(&mut self) {
        self.launch_with(&[], &[]).await;
    }

    /// The same with further arguments, and variables in its environment.
    pub(crate) async fn launch_with(&mut self, arguments: &[&str], variables: &[(&str, &str)]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pushrider"));
        command
            .args(["run", "--config", "pushrider.toml"])
            .args(arguments)
            .envs(variables.iter().copied());
        self.spawn(command).await;
    }

    /// Starts it with a notify socket, as systemd does.
    pub(crate) async fn launch_under(&mut self, notify_socket: &str, watchdog: Duration) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pushrider"));
        command
            .args(["run", "--config", "pushrider.toml"])
            .env("NOTIFY_SOCKET", notify_socket)
            .env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        self.spawn(command).await;
    }

    /// Starts a program in its directory.
    pub(crate) async fn spawn(&mut self, mut command: Command) {
        let mut child = command
            .current_dir(self.directory.path())
            .env("RUST_BACKTRACE", "0")
            .env_remove("AMQP_URL")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::clone(&self.log);
        self.reader = Some(tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let mut log = log.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        }));
        self.child = Some(child);
    }

    /// Kills it as a power cut would.
    pub(crate) async fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().await.unwrap();
    }

    /// Asks it to stop.
    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        let status = std::process::Command::new("kill")
            .args([signal, &pid])
            .status();
        assert!(status.unwrap().success());
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        match tokio::time::timeout(PATIENCE, child.wait()).await {
            Ok(status) => {
                // Its last words may still be in the pipe.
                self.reader.take().unwrap().await.unwrap();
                status.unwrap()
            }
            Err(_elapsed) => panic!("it does not end; its log:\n{}", self.log()),
        }
    }

    /// Stops it and expects exit status 0.
    pub(crate) async fn stop(&mut self) {
        self.terminate();
        let status = self.ended().await;
        assert_eq!(status.code(), Some(0), "its log:\n{}", self.log());
    }

    /// Returns its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().and_then(Child::id).expect("it runs")
    }

    /// Returns by how much its peak has grown since `peak_kib` returned `before`.
    ///
    /// The kernel sums `VmHWM` from counters of each CPU, so a later reading may be a little lower.
    pub(crate) fn peak_growth_kib(&self, before: u64) -> u64 {
        self.peak_kib().saturating_sub(before)
    }

    /// Returns the most memory that it has ever held.
    pub(crate) fn peak_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM"));
        let kibibytes = line.unwrap().split_whitespace().nth(1).unwrap();
        kibibytes.parse().unwrap()
    }

    /// Returns everything it has logged, over all its runs.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Returns its private key, as its file has it.
    pub(crate) fn private_key(&self) -> String {
        fs::read_to_string(self.directory.path().join("vapid.pem")).unwrap()
    }

    /// Returns where its admin listener is.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Asks the admin listener.
    pub(crate) async fn get(&self, path: &str) -> Result<(u16, String), String> {
        let exchange = async {
            let mut stream = TcpStream::connect(self.admin).await?;
            let head = format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = exchange.await.map_err(|error| error.to_string())?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no head")?;
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        Ok((status.ok_or("no status")?, body.to_owned()))
    }

    /// Adds up the samples of a metric whose labels include `labels`.
    pub(crate) async fn metric(&self, name: &str, labels: &str) -> f64 {
        let (_, text) = self.get("/metrics").await.unwrap();
        let is_it = |line: &&str| {
            let end = line.find(['{', ' ']).unwrap_or(line.len());
            &line[..end] == name && line.contains(labels)
        };
        let value = |line: &str| line.rsplit(' ').next()?.parse::<f64>().ok();
        text.lines().filter(is_it).filter_map(value).sum()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines = log.lines().filter(|line| !line.contains(r#""DEBUG""#));
            println!("the log of the daemon:");
            lines.for_each(|line| println!("{line}"));
        }
    }
}

fn port_of(origin: &str) -> Option<u16> {
    Url::parse(origin).ok()?.port_or_known_default()
}

fn free_address() -> SocketAddr {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.local_addr().unwrap()
}
