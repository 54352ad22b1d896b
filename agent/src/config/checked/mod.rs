//! From what was read to what the agent uses.

mod audit;
mod auth;
mod destination;
mod intercept;
mod secret;

use std::num::NonZeroU16;

use toml::de::DeTable;

use super::raw::{Document, Table, shown};
use super::{
    Agent, Attribution, Auth, Bpf, Cgroup, Config, Grants, Limits, Listen, Log, LogFormat, Netns,
    OnAgentDown, PolicyFile, Report, TARGETS_MAX, Tls, WORKERS_MAX, Want, targets,
};
use audit::audit;
use destination::destinations;
use intercept::{Placed, check_rules, intercept_rules};

/// Longest path of a Unix socket: `sun_path` is 108 bytes with its final zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// PostgreSQL refuses larger messages itself (`MaxAllocSize`, `src/include/utils/memutils.h`).
const MESSAGE_BYTES_CEILING: u64 = 0x3fff_ffff;

/// A grant for a while is not one for good: 30 days.
const MINUTES_CEILING: u64 = 30 * 24 * 60;

/// Reads and checks `text`.
pub(super) fn parse(file: &str, text: &str) -> Result<Config, Report> {
    let document = Document::new(text);
    let (content, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // What the parser made of broken syntax is a guess: checking it would report errors that
        // are not there.
        errors.iter().for_each(|error| document.syntax(error));
        document.finish(file)?;
    }
    let config = read(&document, content.get_ref());
    document.finish(file)?;
    Ok(config)
}

/// Asks for everything that a configuration may hold; what is wrong is noted in `document`.
fn read<'i>(document: &Document<'i>, content: &DeTable<'i>) -> Config {
    let root = document.root(content);
    let agent = agent(document, root.table("agent"));
    let bpf = bpf(document, root.table("bpf"));
    let listen = listen(root.table("listen"));
    let rules = intercept_rules(document, &root);
    check_rules(document, &rules, listen.port);
    let tls = tls(document, root.table("tls"));
    let destinations = destinations(document, &root, &tls);
    let config = Config {
        agent,
        bpf,
        listen,
        intercept: rules.into_iter().map(Placed::unplaced).collect(),
        audit: audit(document, root.table("audit"), &destinations),
        destinations,
        tls,
        auth: auth_limits(root.table("auth")),
        netns: netns(root.table("netns")),
        limits: limits(root.table("limits")),
        grants: grants(root.table("grants")),
        attribution: attribution(root.table("attribution")),
        policy: policy(root.table("policy")),
        log: log(document, root.table("log")),
    };
    if targets(&config.intercept).len() > TARGETS_MAX {
        let message = format!("too many ports and networks: expected at most {TARGETS_MAX} pairs");
        document.missing("intercept", &message, "join networks that lie side by side");
    }
    root.finish();
    config
}

fn agent(document: &Document<'_>, table: Table<'_, '_>) -> Agent {
    let (place, control_socket) = table.path("control_socket", "/run/pgward/control.sock");
    let found = control_socket.as_os_str().len();
    if let Some(place) = place
        && found > SOCKET_PATH_BYTES_MAX
    {
        let message = format!(
            "too long for a socket: found {found} bytes, expected at most {SOCKET_PATH_BYTES_MAX}"
        );
        document.problem(&place, message, None);
    }
    let agent = Agent {
        control_socket,
        workers: table.integer("workers", 0, 0..=WORKERS_MAX as u64) as usize,
        sessions_max: table.integer("sessions_max", 10_000, 1..=1_000_000) as usize,
        startup_timeout: table.millis("startup_timeout_ms", 60_000, 100..=600_000),
    };
    table.finish();
    agent
}

fn bpf(document: &Document<'_>, table: Table<'_, '_>) -> Bpf {
    let cgroup = match table.text("cgroup") {
        None | Some((_, "root")) => Cgroup::Root,
        Some((place, text)) if text.starts_with('/') => {
            table.path_of(&place, text).map_or(Cgroup::Root, Cgroup::Subtree)
        }
        Some((place, text)) => {
            let message = format!("found `{}`, expected `root` or an absolute path", shown(text));
            document.problem(&place, message, None);
            Cgroup::Root
        }
    };
    let want = [("best-effort", Want::BestEffort), ("require", Want::Require), ("off", Want::Off)];
    let bpf = Bpf {
        cgroup,
        pin_path: table.path("pin_path", "/sys/fs/bpf/pgward").1,
        on_agent_down: table.choice(
            "on_agent_down",
            &[("block", OnAgentDown::Block), ("allow", OnAgentDown::Allow)],
        ),
        tx_timestamp: table.choice("tx_timestamp", &want),
        sendmsg_tracepoint: table.choice("sendmsg_tracepoint", &want),
    };
    table.finish();
    bpf
}

fn listen(table: Table<'_, '_>) -> Listen {
    let port = port(table.integer("port", u64::from(Listen::PORT.get()), PORTS));
    table.finish();
    Listen { port }
}

/// Port numbers that a connection can have.
const PORTS: std::ops::RangeInclusive<u64> = 1..=65_535;

fn port(number: u64) -> NonZeroU16 {
    // `PORTS` was checked; what a failed check left behind is replaced and never used.
    u16::try_from(number).ok().and_then(NonZeroU16::new).unwrap_or(Listen::PORT)
}

fn tls(document: &Document<'_>, table: Table<'_, '_>) -> Tls {
    let (_, ca_certificate) = table.path("ca_certificate", "/etc/pgward/ca.pem");
    let (place, ca_key) = table.path("ca_key", "/etc/pgward/ca.key");
    if let Some(place) = place
        && ca_key == ca_certificate
    {
        let message = "the same file as `ca_certificate`".to_owned();
        let hint = "applications read the certificate, and nobody but the agent the key".to_owned();
        document.problem(&place, message, Some(hint));
    }
    table.finish();
    Tls { ca_certificate, ca_key }
}

fn auth_limits(table: Table<'_, '_>) -> Auth {
    let auth = Auth {
        failures_max: table.integer("failures_max", 10, 1..=100_000) as u32,
        failures_window: table.millis("failures_window_ms", 60_000, 1_000..=3_600_000),
        refused: table.millis("refused_ms", 60_000, 1_000..=3_600_000),
        cancel_failures_max: table.integer("cancel_failures_max", 10, 1..=100_000) as u32,
    };
    table.finish();
    auth
}

fn netns(table: Table<'_, '_>) -> Netns {
    let netns = Netns {
        hold: table.millis("hold_ms", 3_000, 100..=30_000),
        idle: table.millis("idle_ms", 10_000, 1_000..=3_600_000),
    };
    table.finish();
    netns
}

fn limits(table: Table<'_, '_>) -> Limits {
    let range = 64 << 10..=MESSAGE_BYTES_CEILING;
    let message_bytes_max = table.integer("message_bytes_max", 64 << 20, range) as usize;
    table.finish();
    Limits { message_bytes_max }
}

fn grants(table: Table<'_, '_>) -> Grants {
    let grants = Grants {
        approvals: table.integer("approvals", 0, 0..=1) as u8,
        minutes_max: table.integer("max_minutes", 480, 1..=MINUTES_CEILING),
    };
    table.finish();
    grants
}

fn attribution(table: Table<'_, '_>) -> Attribution {
    let container_state_roots = table.paths("container_state_roots");
    table.finish();
    Attribution { container_state_roots }
}

fn policy(table: Table<'_, '_>) -> PolicyFile {
    let file = table.written_path("file").map(|(_, path)| path);
    table.finish();
    PolicyFile { file }
}

fn log(document: &Document<'_>, table: Table<'_, '_>) -> Log {
    let mut level = "info".to_owned();
    if let Some((place, text)) = table.text("level") {
        match tracing_subscriber::EnvFilter::try_new(text) {
            Ok(_) => text.clone_into(&mut level),
            Err(error) => {
                let message = format!("not a log filter: found `{}`: {error}", shown(text));
                let hint = "write for example `info` or `warn,pgward::net=debug`".to_owned();
                document.problem(&place, message, Some(hint));
            }
        }
    }
    let format = table.choice("format", &[("text", LogFormat::Text), ("json", LogFormat::Json)]);
    table.finish();
    Log { level, format }
}

impl Listen {
    /// The port where nothing else is said.
    pub const PORT: NonZeroU16 = NonZeroU16::new(15_432).expect("15432 is not zero");
}

/// Every key that is asked for when `text` is read, with the header of its table.
#[cfg(test)]
pub(super) fn keys(text: &str) -> std::collections::BTreeSet<(String, &'static str)> {
    let document = Document::new(text);
    let content = DeTable::parse(text).expect("good syntax");
    read(&document, content.get_ref());
    document.known()
}
