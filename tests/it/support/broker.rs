//! A private RabbitMQ node: on loopback, with its own data, cookie and epmd, gone with the tests.
//!
//! [`Broker::shared`] is one node for all tests of the process; each takes a virtual host of its
//! own. Tests that kill, freeze or block a broker start one with [`Broker::own`].

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread::sleep;
use std::time::Duration;

use pushrider::broker::Permissions;
use pushrider::message::Name;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};
use serde_json::{Value, json};

use super::node::{free_ports, signal, spawn};
use super::vhost::Vhost;
use super::{eventually, wanted};

const PROGRAMS: &str = "/usr/lib/rabbitmq/bin";

/// Names the folder of another Debian whose RabbitMQ is run instead: `tests/rabbitmq-4.sh` sets it.
const ANOTHER_ROOT: &str = "TEST_RABBITMQ_ROOT";

/// The virtual hosts that the shared node starts with.
const VHOSTS: usize = 40;

/// So many are made at once when those are taken: to ask for some takes a second of CPU as for one, but
/// for many the node has no time for the tests that run.
const MORE_VHOSTS: usize = 8;

/// The user that may run the daemon but not declare anything.
pub(crate) const RUNNER: &str = "runner";

/// The user that may read everything and write nothing.
pub(crate) const READER: &str = "reader";

/// After a crash the worker that dead-letters can find its target queues not there yet. It tries
/// again after this time-out, which is three minutes by default: longer than any test waits.
const ADVANCED: &str = "[{rabbit, [{dead_letter_worker_publisher_confirm_timeout, 20000}]}].";

/// A RabbitMQ node.
pub(crate) struct Broker {
    dir: PathBuf,
    ports: Ports,
    /// The numbers of the virtual hosts that nobody has taken.
    vhosts: Mutex<Range<usize>>,
    /// `None` for a node that uses the epmd of another.
    epmd: Option<Child>,
    node: Mutex<Child>,
    /// The CA that signed the certificate of the TLS listener.
    pub(crate) ca: String,
    issuer: Issuer<'static, KeyPair>,
}

#[derive(Clone, Copy)]
struct Ports {
    amqp: u16,
    amqps: u16,
    dist: u16,
    epmd: u16,
}

impl Broker {
    /// Returns the node that all tests of this process share.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(VHOSTS, None, "", ""))
    }

    /// Starts a node for one test; it ends with the value.
    pub(crate) fn own() -> Self {
        Self::start(2, None, "", "")
    }

    /// The same with plug-ins, named as in `rabbitmq_a, rabbitmq_b`; they may need more lines of configuration.
    pub(crate) fn with_plugins(plugins: &str, configuration: &str) -> Self {
        Self::start(2, None, plugins, configuration)
    }

    /// Starts a node that can join the cluster of this one.
    pub(super) fn another(&self) -> Self {
        Self::start(0, Some(self.ports.epmd), "", "")
    }

    /// Makes it a node of another one's cluster; it forgets what it had.
    pub(super) fn join(&self, other: &Self) {
        self.control(&["stop_app"]);
        self.control(&["join_cluster", &format!("n{}@localhost", other.ports.amqp)]);
        self.control(&["start_app"]);
    }

    /// Makes a certificate of this common name and its key, in PEM, from the CA of the TLS listener.
    pub(crate) fn issue(&self, name: &str) -> (String, String) {
        issue(&self.issuer, name)
    }

    /// Returns the port for AMQP without TLS.
    pub(crate) fn port(&self) -> u16 {
        self.ports.amqp
    }

    /// Returns the process id of the node.
    pub(crate) fn pid(&self) -> u32 {
        self.node.lock().unwrap().id()
    }

    /// Returns the folder of everything that the node keeps on disk.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("mnesia")
    }

    /// Takes a virtual host nobody else uses.
    pub(crate) fn vhost(&self) -> Vhost {
        let mut free = self.vhosts.lock().unwrap();
        if free.is_empty() {
            *free = free.end..free.end + MORE_VHOSTS;
            let file = self.dir.join("more.json");
            fs::write(&file, definitions(free.clone()).to_string()).unwrap();
            self.control(&["import_definitions", &file.to_string_lossy()]);
        }
        let name = vhost_name(free.next().unwrap());
        Vhost::new(name, self.ports.amqp, self.ports.amqps)
    }

    /// Waits until a quorum queue, and all that was declared before the call, would survive [`Self::kill`].
    ///
    /// RabbitMQ keeps the names of young queues in memory for half a second (`names.dets`), and young
    /// bindings for up to two (Mnesia's log).
    pub(crate) async fn remembers(&self, vhost: &str, queue: &str) {
        let node = format!("n{}@localhost", self.ports.amqp);
        let names = self.dir.join("mnesia").join(&node).join("quorum");
        let names = names.join(&node).join("names.dets");
        let name = format!("{vhost}_{queue}").into_bytes();
        eventually(Duration::from_secs(20), async || {
            let written = fs::read(&names).unwrap_or_default();
            wanted(
                written.windows(name.len()).any(|part| part == name),
                |&is| is,
            )
        })
        .await;
        self.control(&["eval", "mnesia:sync_log()."]);
    }

    /// Kills the node as a power cut would; see [`Self::remembers`].
    pub(crate) fn kill(&self) {
        let mut node = self.node.lock().unwrap();
        node.kill().unwrap();
        node.wait().unwrap();
    }

    /// Stops the node in good order.
    pub(crate) fn stop(&self) {
        let mut node = self.node.lock().unwrap();
        signal(&node, "TERM");
        node.wait().unwrap();
    }

    /// Starts the node again after [`Self::kill`] or [`Self::stop`].
    pub(crate) fn restart(&self) {
        *self.node.lock().unwrap() = start_node(&self.dir, self.ports);
        self.wait_until_ready();
    }

    /// Stops the node's clock: connections stay up and silent.
    pub(crate) fn freeze(&self) {
        signal(&self.node.lock().unwrap(), "STOP");
    }

    /// Ends [`Self::freeze`].
    pub(crate) fn thaw(&self) {
        signal(&self.node.lock().unwrap(), "CONT");
    }

    /// Raises the memory alarm, which blocks connections that publish.
    pub(crate) fn block(&self) {
        self.control(&["set_vm_memory_high_watermark", "absolute", "1MiB"]);
    }

    /// Ends [`Self::block`].
    pub(crate) fn unblock(&self) {
        self.control(&["set_vm_memory_high_watermark", "absolute", "2GiB"]);
    }

    /// Runs `rabbitmqctl`, which takes a second of CPU.
    pub(crate) fn control(&self, arguments: &[&str]) -> String {
        let [program, rest @ ..] = &program("rabbitmqctl")[..] else {
            unreachable!("a program has a name");
        };
        let mut command = Command::new(program);
        environment(&mut command, &self.dir, self.ports);
        let output = command.args(rest).args(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    fn start(vhosts: usize, epmd: Option<u16>, plugins: &str, configuration: &str) -> Self {
        assert!(
            Path::new(PROGRAMS).is_dir(),
            "these tests need RabbitMQ: apt-get install --no-install-recommends rabbitmq-server"
        );
        static NODES: AtomicUsize = AtomicUsize::new(0);
        let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
        remove_leftovers(base);
        let number = NODES.fetch_add(1, Ordering::Relaxed);
        let dir = base.join(format!("broker-{}-{number}", std::process::id()));
        for part in ["home", "mnesia", "log"] {
            fs::create_dir_all(dir.join(part)).unwrap();
        }
        let [amqp, amqps, dist, free] = free_ports();
        let ports = Ports {
            amqp,
            amqps,
            dist,
            epmd: epmd.unwrap_or(free),
        };
        let (ca, issuer) = write_configuration(&dir, ports, vhosts, configuration);
        fs::write(dir.join("enabled_plugins"), format!("[{plugins}].")).unwrap();
        let broker = Self {
            epmd: epmd.is_none().then(|| start_epmd(ports)),
            node: Mutex::new(start_node(&dir, ports)),
            dir,
            ports,
            vhosts: Mutex::new(0..vhosts),
            ca,
            issuer,
        };
        broker.wait_until_ready();
        broker
    }

    /// Waits until an AMQP handshake is answered: accepting TCP comes too early.
    fn wait_until_ready(&self) {
        for _ in 0..1200 {
            let ended = self.node.lock().unwrap().try_wait().unwrap();
            assert!(
                ended.is_none(),
                "RabbitMQ ended: {ended:?}; see {:?}",
                self.dir
            );
            if answers(self.ports.amqp).unwrap_or(false) {
                return;
            }
            sleep(Duration::from_millis(50));
        }
        panic!("RabbitMQ does not answer; see {:?}", self.dir);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.join("log/rabbit.log")).unwrap_or_default();
            let is_fault = |line: &&str| line.contains("[error]") || line.contains("[warning]");
            println!("what is wrong in the log of the broker:");
            log.lines()
                .filter(is_fault)
                .for_each(|line| println!("{line}"));
        }
        let node = self.node.get_mut().unwrap();
        for child in [node].into_iter().chain(self.epmd.as_mut()) {
            let _gone = child.kill();
            let _gone = child.wait();
        }
        let _gone = fs::remove_dir_all(&self.dir);
    }
}

fn answers(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"AMQP\0\0\x09\x01")?;
    let mut frame_type = [0];
    stream.read_exact(&mut frame_type)?;
    Ok(frame_type == [1])
}

/// The command line of a program of RabbitMQ's.
fn program(name: &str) -> Vec<String> {
    let program = format!("{PROGRAMS}/{name}");
    match std::env::var(ANOTHER_ROOT) {
        Ok(root) => vec!["chroot".to_owned(), root, program],
        Err(_) => vec![program],
    }
}

fn start_epmd(ports: Ports) -> Child {
    spawn(&["epmd".to_owned()], |command| {
        command
            .args(["-port", &ports.epmd.to_string(), "-address", "127.0.0.1"])
            .env_remove("ERL_EPMD_PORT")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
    })
}

fn start_node(dir: &Path, ports: Ports) -> Child {
    let log = |name: &str| fs::File::create(dir.join("log").join(name)).unwrap();
    spawn(&program("rabbitmq-server"), |command| {
        environment(command, dir, ports);
        command
            .arg("-noinput")
            // Without a shell in between, the child is the Erlang VM itself.
            .env("RABBITMQ_ALLOW_INPUT", "1")
            .stdin(Stdio::null())
            .stdout(log("out"))
            .stderr(log("err"));
    })
}

fn environment(command: &mut Command, dir: &Path, ports: Ports) {
    // Inside RabbitMQ, a publisher waits `net_ticktime` and 5 s for a queue that has no leader yet: 65 s
    // by default, for the worker that dead-letters after a crash as well.
    let arguments = "-kernel inet_dist_use_interface {127,0,0,1} net_ticktime 8 +S 2:2 +sbwt none \
                      +sbwtdcpu none +sbwtdio none";
    command
        .current_dir(dir)
        .env("HOME", dir.join("home"))
        .env("RABBITMQ_NODENAME", format!("n{}@localhost", ports.amqp))
        .env("RABBITMQ_NODE_PORT", ports.amqp.to_string())
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_DIST_PORT", ports.dist.to_string())
        .env("ERL_EPMD_PORT", ports.epmd.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_MNESIA_BASE", dir.join("mnesia"))
        .env("RABBITMQ_LOG_BASE", dir.join("log"))
        .env("RABBITMQ_LOGS", dir.join("log/rabbit.log"))
        .env("RABBITMQ_CONFIG_FILE", dir.join("rabbitmq.conf"))
        .env("RABBITMQ_ADVANCED_CONFIG_FILE", dir.join("advanced.config"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", dir.join("enabled_plugins"))
        .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
        .env("RABBITMQ_PID_FILE", dir.join("rabbit.pid"))
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", arguments);
}

fn write_configuration(
    dir: &Path,
    ports: Ports,
    vhosts: usize,
    more: &str,
) -> (String, Issuer<'static, KeyPair>) {
    let write = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
    let (ca, issuer) = authority();
    let (certificate, key) = issue(&issuer, "localhost");
    write("ca.pem", &ca);
    write("certificate.pem", &certificate);
    write("key.pem", &key);
    // The nodes of a cluster have the same.
    write("home/.erlang.cookie", "tests");
    let only_mine = fs::Permissions::from_mode(0o400);
    fs::set_permissions(dir.join("home/.erlang.cookie"), only_mine).unwrap();
    write("advanced.config", ADVANCED);
    let mut definitions = definitions(0..vhosts);
    definitions["users"] = json!([
        { "name": "guest", "password": "guest", "tags": "administrator" },
        { "name": RUNNER, "password": RUNNER, "tags": "" },
        { "name": READER, "password": READER, "tags": "" },
    ]);
    write("definitions.json", &definitions.to_string());
    let (amqp, amqps, dir) = (ports.amqp, ports.amqps, dir.display());
    let configuration = format!(
        "listeners.tcp.1 = 127.0.0.1:{amqp}\n\
         listeners.ssl.1 = 127.0.0.1:{amqps}\n\
         ssl_options.cacertfile = {dir}/ca.pem\n\
         ssl_options.certfile = {dir}/certificate.pem\n\
         ssl_options.keyfile = {dir}/key.pem\n\
         log.console = false\n\
         vm_memory_high_watermark.absolute = 2GiB\n\
         disk_free_limit.absolute = 50MB\n\
         loopback_users = none\n\
         load_definitions = {dir}/definitions.json\n\
         {more}"
    );
    fs::write(format!("{dir}/rabbitmq.conf"), configuration).unwrap();
    (ca, issuer)
}

/// Virtual hosts and who may do what there.
fn definitions(vhosts: Range<usize>) -> Value {
    let names: Vec<_> = vhosts.map(vhost_name).collect();
    let vhosts: Vec<_> = names.iter().map(|name| json!({ "name": name })).collect();
    let allow = |user: &str, vhost: &str, [configure, write, read]: [String; 3]| {
        json!({ "user": user, "vhost": vhost,
                "configure": configure, "write": write, "read": read })
    };
    let permissions: Vec<_> = names
        .iter()
        .flat_map(|vhost| {
            [
                allow("guest", vhost, [".*"; 3].map(str::to_owned)),
                allow(RUNNER, vhost, runner_permissions()),
                allow(READER, vhost, ["^$", "^$", ".*"].map(str::to_owned)),
            ]
        })
        .collect();
    json!({ "vhosts": vhosts, "permissions": permissions })
}

fn vhost_name(number: usize) -> String {
    format!("t{number:03}")
}

/// What a daemon needs that declares nothing: configure, write, read.
fn runner_permissions() -> [String; 3] {
    let prefix = Name::parse("webpush").unwrap();
    let permissions = Permissions::new(&prefix);
    [permissions.configure, permissions.write, permissions.read]
}

/// Makes a CA: its certificate in PEM, and what signs others.
fn authority() -> (String, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = ca.self_signed(&key).unwrap().pem();
    (pem, Issuer::new(ca, key))
}

/// Makes a certificate with this common name, for `localhost`, and its key, in PEM.
fn issue(issuer: &Issuer<'static, KeyPair>, name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut certificate = CertificateParams::new(names).unwrap();
    certificate.distinguished_name = DistinguishedName::new();
    certificate
        .distinguished_name
        .push(DnType::CommonName, name);
    let certificate = certificate.signed_by(&key, issuer).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// Removes what nodes of processes that were killed left behind.
fn remove_leftovers(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name
            .strip_prefix("broker-")
            .and_then(|rest| rest.split('-').next());
        if let Some(process) = process
            && !Path::new("/proc").join(process).exists()
        {
            let _gone = fs::remove_dir_all(entry.path());
        }
    }
}
