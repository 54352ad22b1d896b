//! From what was read to what the agent uses.

use std::num::NonZeroU16;

use toml::de::DeTable;

use super::raw::{Document, Place, Table, shown};
use super::{
    Agent, Attribution, Audit, Bpf, Cgroup, Config, INTERCEPTS_MAX, Intercept, Limits, Listen, Log,
    LogFormat, Netns, Network, OnAgentDown, OnFull, Parameters, Report, TARGETS_MAX, WORKERS_MAX,
    Want, targets,
};

/// Longest path of a Unix socket: `sun_path` is 108 bytes with its final zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// PostgreSQL refuses larger messages itself (`MaxAllocSize`, `src/include/utils/memutils.h`).
const MESSAGE_BYTES_CEILING: u64 = 0x3fff_ffff;

/// Where the parts of an intercept rule stand in the file.
struct Placed {
    ports: Vec<(Place, NonZeroU16)>,
    networks: Vec<(Place, Network)>,
    exclude: Vec<(Place, Network)>,
}

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
    let root = document.root(content.get_ref());
    let agent = agent(&document, root.table("agent"));
    let bpf = bpf(&document, root.table("bpf"));
    let listen = listen(root.table("listen"));
    let rules = intercept_rules(&document, &root);
    check_rules(&document, &rules, listen.port);
    let config = Config {
        agent,
        bpf,
        listen,
        intercept: rules.into_iter().map(Placed::unplaced).collect(),
        netns: netns(root.table("netns")),
        limits: limits(root.table("limits")),
        attribution: attribution(root.table("attribution")),
        audit: audit(&document, root.table("audit")),
        log: log(&document, root.table("log")),
    };
    if targets(&config.intercept).len() > TARGETS_MAX {
        let message = format!("too many ports and networks: expected at most {TARGETS_MAX} pairs");
        document.missing("intercept", &message, "join networks that lie side by side");
    }
    root.finish();
    document.finish(file)?;
    Ok(config)
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

fn intercept_rules(document: &Document<'_>, root: &Table<'_, '_>) -> Vec<Placed> {
    let tables = root.tables("intercept");
    if tables.is_empty() {
        document.missing(
            "intercept",
            "nothing to intercept: found no `[[intercept]]`, expected at least one",
            "begin with `[[intercept]]` and `ports = [5432]`",
        );
    }
    if let Some((place, _)) = tables.get(INTERCEPTS_MAX) {
        let message =
            format!("too many: found {}, expected at most {INTERCEPTS_MAX}", tables.len());
        document.problem(place, message, None);
    }
    tables.into_iter().take(INTERCEPTS_MAX).map(|(place, t)| rule(document, place, t)).collect()
}

fn rule(document: &Document<'_>, place: Place, table: Table<'_, '_>) -> Placed {
    let ports = table.integers("ports", PORTS);
    if table.written_items("ports").unwrap_or(0) == 0 {
        let message = "no `ports`: found none, expected at least one, for example `[5432]`";
        document.problem(&place, message.to_owned(), None);
    }
    let networks = match table.texts("networks") {
        None => {
            vec![(place.clone(), Network::ALL_V4), (place.clone(), Network::ALL_V6)]
        }
        Some(texts) => {
            if table.written_items("networks") == Some(0) {
                let message = "no `networks`: found an empty array, expected at least one";
                let hint = "leave the key out for all networks";
                document.problem(&place, message.to_owned(), Some(hint.to_owned()));
            }
            parsed(document, texts)
        }
    };
    let exclude = parsed(document, table.texts("exclude").unwrap_or_default());
    table.finish();
    let ports = ports.unwrap_or_default().into_iter().map(|(p, number)| (p, port(number)));
    Placed { ports: ports.collect(), networks, exclude }
}

fn parsed(document: &Document<'_>, texts: Vec<(Place, &str)>) -> Vec<(Place, Network)> {
    let mut networks = Vec::new();
    for (place, text) in texts {
        match text.parse::<Network>() {
            Ok(network) => networks.push((place, network)),
            Err(error) => {
                let hint = match &error {
                    super::NetworkError::HostBits { expected, .. } => {
                        Some(format!("write `{expected}`, or the one address without a prefix"))
                    }
                    _ => None,
                };
                document.problem(&place, shown_error(&error), hint);
            }
        }
    }
    networks
}

fn shown_error(error: &super::NetworkError) -> String {
    error.to_string().chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Checks each rule by itself and each pair of rules.
fn check_rules(document: &Document<'_>, rules: &[Placed], listen: NonZeroU16) {
    for rule in rules {
        for (place, port) in &rule.ports {
            if *port == listen {
                let message =
                    format!("port {port} is the agent's own: found it here and as `listen.port`");
                document.problem(place, message, None);
            }
        }
        check_excludes(document, rule);
    }
    for (index, rule) in rules.iter().enumerate() {
        for (other_index, other) in rules.iter().enumerate() {
            if index != other_index {
                check_pair(document, rule, other_index, other);
            }
        }
    }
}

/// Within a rule the longest prefix decides, which only says what was meant when excluded networks
/// lie inside the others.
fn check_excludes(document: &Document<'_>, rule: &Placed) {
    for (place, excluded) in &rule.exclude {
        if let Some((_, network)) =
            rule.networks.iter().find(|(_, network)| excluded.contains(*network))
        {
            let message = format!("`{excluded}` excludes all of `{network}` in `networks`");
            let hint = format!("remove `{network}` from `networks`");
            document.problem(place, message, Some(hint));
        } else if !rule.networks.iter().any(|(_, network)| network.contains(*excluded)) {
            let message =
                format!("`{excluded}` lies in none of `networks`, so it excludes nothing");
            document.problem(place, message, None);
        }
    }
}

/// Reports the networks of `rule` that `other` leaves alone, for a port both name.
fn check_pair(document: &Document<'_>, rule: &Placed, other_index: usize, other: &Placed) {
    let shared = |port: &NonZeroU16| other.ports.iter().any(|(_, theirs)| theirs == port);
    let Some((_, port)) = rule.ports.iter().find(|(_, port)| shared(port)) else { return };
    for (_, excluded) in &other.exclude {
        let agreed = rule.exclude.iter().any(|(_, ours)| ours.contains(*excluded));
        let against = rule.networks.iter().find(|(_, network)| network.overlaps(*excluded));
        if let (false, Some((place, network))) = (agreed, against) {
            let message = format!(
                "contradiction for port {port}: `{network}` is intercepted here, \
                 `{excluded}` is excluded in `intercept[{other_index}]`"
            );
            document.problem(place, message, None);
        }
    }
}

impl Placed {
    fn unplaced(self) -> Intercept {
        fn sorted<T: Ord>(values: Vec<(Place, T)>) -> Vec<T> {
            let mut values: Vec<T> = values.into_iter().map(|(_, value)| value).collect();
            values.sort_unstable();
            values.dedup();
            values
        }
        Intercept {
            ports: sorted(self.ports),
            networks: sorted(self.networks),
            exclude: sorted(self.exclude),
        }
    }
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

fn attribution(table: Table<'_, '_>) -> Attribution {
    let container_state_roots = table.paths("container_state_roots");
    table.finish();
    Attribution { container_state_roots }
}

fn audit(document: &Document<'_>, table: Table<'_, '_>) -> Audit {
    let (place, path) = table.path("path", "/var/log/pgward/queries.jsonl");
    if let Some(place) = place
        && path.parent().is_none_or(|folder| folder.parent().is_none())
    {
        document.problem(&place, "expected a file in a folder of its own".to_owned(), None);
    }
    let audit = Audit {
        path,
        on_full: table.choice("on_full", &[("block", OnFull::Block), ("allow", OnFull::Allow)]),
        statement_bytes_max: table.integer("statement_bytes_max", 64 << 10, 256..=16 << 20)
            as usize,
        parameter_bytes_max: table.integer("parameter_bytes_max", 4 << 10, 16..=1 << 20) as usize,
        parameters: table
            .choice("parameters", &[("record", Parameters::Record), ("omit", Parameters::Omit)]),
        file_bytes_max: table.integer("file_bytes_max", 1 << 30, 1 << 20..=1 << 40),
    };
    table.finish();
    audit
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
