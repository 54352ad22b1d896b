//! Loads the programs and puts them to work.

use std::os::fd::AsFd;

use aya::{
    Btf, Ebpf, EbpfError, EbpfLoader,
    maps::{MapData, ProgramArray},
    programs::{Program, ProgramError},
};
use pgward_common::{Offsets, Settings, TargetKey, maps as names};
use thiserror::Error;
use tracing::{debug, info, warn};

use super::{
    AttachError, Cgroup, Events, KernelTypes, Links, MapError, Maps, PinFolder, Undo, WriterEvents,
    attach, object,
};

/// Maps that outlive the process. The program arrays are not among them: that is how the kernel notices our end.
const PINNED: [&str; 11] = [
    names::SETTINGS,
    names::TARGETS,
    names::AGENT_SOCKETS,
    names::FLOWS,
    names::WRITERS,
    names::HANDOVER,
    names::NAMESPACES,
    names::EVENTS,
    names::WRITER_EVENTS,
    names::COUNTERS,
    names::LEDGER,
];

const SENDMSG_LOCKED: &str = "sendmsg_locked";
const TRACEPOINT: &str = "tcp_sendmsg_locked";
/// Enumerator that kernels with the transmit-timestamp callback have in their BTF.
const TX_TIMESTAMP_ENUMERATOR: &str = "BPF_SOCK_OPS_TSTAMP_SENDMSG_CB";

/// Why the programs are not at work.
#[derive(Debug, Error)]
pub enum LoadError {
    /// This build has no programs.
    #[error(
        "this pgward was built without its eBPF programs\n\
         hint: build them with `cargo xtask build-ebpf`, then build pgward again"
    )]
    NoObject,
    /// The object or a map was refused.
    #[error("cannot load the eBPF object")]
    Object(#[source] Box<EbpfError>),
    /// A program was refused.
    #[error("cannot load program `{name}`")]
    Program {
        /// Its name.
        name: &'static str,
        /// With the verifier's log.
        #[source]
        source: Box<ProgramError>,
    },
    /// A tier is required but not to be had.
    #[error("`bpf.{option}` is \"require\" but this kernel can't: {reason}")]
    Required {
        /// Key in the configuration.
        option: &'static str,
        /// Why not.
        reason: String,
    },
    /// Map trouble.
    #[error(transparent)]
    Map(#[from] MapError),
    /// Attach trouble.
    #[error(transparent)]
    Attach(#[from] AttachError),
}

/// How much an option that the kernel may lack is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// Refuse to start without.
    Require,
    /// Use it where it is.
    BestEffort,
    /// Do not use it.
    Off,
}

/// Who says who wrote a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Only the opener is known.
    T0,
    /// Transmit-timestamp callback: the writer is known, offsets are estimates.
    T1,
    /// `tcp_sendmsg_locked` tracepoint: writer and exact offset are known.
    T2,
}

impl Tier {
    /// Name used in records.
    pub fn name(self) -> &'static str {
        match self {
            Tier::T0 => "T0",
            Tier::T1 => "T1",
            Tier::T2 => "T2",
        }
    }
}

/// What to load and where to attach.
#[derive(Debug)]
pub struct Options<'a> {
    /// Attach point.
    pub cgroup: &'a Cgroup,
    /// Links and maps are pinned here.
    pub pins: &'a PinFolder,
    /// Settings; `tx_timestamp` is filled in by the loader, `events_lost_recorded` stays as it was.
    pub settings: Settings,
    /// Destinations: prefix bits, key, action.
    pub targets: &'a [(u32, TargetKey, u32)],
    /// Tier T1.
    pub tx_timestamp: Requirement,
    /// Tier T2.
    pub sendmsg_tracepoint: Requirement,
}

/// Programs at work.
pub struct Loaded {
    /// Maps.
    pub maps: Maps,
    /// Connection and namespace events.
    pub events: Events,
    /// Writer changes.
    pub writer_events: WriterEvents,
    /// What is attached.
    pub links: Links,
    /// Best tier at work.
    pub tier: Tier,
    /// Log lines of the programs; flush it when its descriptor is readable.
    pub log: Option<ProgramLog>,
    /// To be held as long as the agent serves.
    pub alive: Alive,
    /// Takes the new hooks back, unless the rest of the start succeeds too.
    pub undo: Undo,
}

/// Log lines of the programs, for `tracing` through `log`.
pub type ProgramLog = aya_log::EbpfLogger<&'static dyn log::Log>;

/// Tells the kernel that the agent serves. Dropping it (or the end of the process) makes the connect hooks take their
/// agent-down path; it detaches nothing but the tracepoint of tier T2.
pub struct Alive {
    _arrays: [ProgramArray<MapData>; 2],
    _ebpf: Ebpf,
}

/// Loads, fills the maps, marks the agent as alive, attaches or swaps. On return interception works; namespaces are opened as
/// their events come.
pub fn load(options: &Options<'_>) -> Result<Loaded, LoadError> {
    let object = object().ok_or(LoadError::NoObject)?;
    options.pins.check_belongs_to(options.cgroup)?;
    let mut undo = Undo::of(options.pins);
    let types = KernelTypes::of_running_kernel()
        .inspect_err(|error| warn!(%error, "no kernel type information: tier T0 only"))
        .ok();
    let btf = Btf::from_sys_fs().ok();
    let have_tx = types.as_ref().is_some_and(|t| t.has_enumerator(TX_TIMESTAMP_ENUMERATOR));

    let mut ebpf =
        load_programs(object, btf.as_ref(), types.as_ref(), have_tx, Some(options.pins))?;
    let t2 = match options.sendmsg_tracepoint {
        Requirement::Off => false,
        wanted => match trace_sendmsg(&mut ebpf, btf.as_ref()) {
            Ok(()) => true,
            Err(reason) if wanted == Requirement::Require => {
                return Err(LoadError::Required { option: "sendmsg_tracepoint", reason });
            }
            Err(reason) => {
                info!(reason, "tier T2 not available");
                false
            }
        },
    };
    // T2 sees all that T1 sees, before it does, and knows the offset: T1 beside it would only cost.
    let t1 = match options.tx_timestamp {
        Requirement::Off => false,
        Requirement::Require if !have_tx => {
            let reason = format!("it does not define {TX_TIMESTAMP_ENUMERATOR}");
            return Err(LoadError::Required { option: "tx_timestamp", reason });
        }
        Requirement::Require => true,
        Requirement::BestEffort => have_tx && !t2,
    };

    let log = aya_log::EbpfLogger::init(&mut ebpf)
        .inspect_err(|error| debug!(%error, "no log lines from the programs"))
        .ok();
    let maps = Maps::take(&mut ebpf)?;
    let events = Events::take(&mut ebpf)?;
    let writer_events = WriterEvents::take(&mut ebpf)?;
    maps.set_settings(Settings { tx_timestamp: t1.into(), ..options.settings })?;
    maps.set_targets(options.targets)?;
    // Listeners of an earlier agent are gone: held SYNs and new connects report their namespaces again.
    for cookie in maps.namespaces()? {
        maps.namespace_forgotten(cookie)?;
    }
    let alive = [
        mark_alive(&mut ebpf, names::AGENT_ALIVE4, "connect4_redirect")?,
        mark_alive(&mut ebpf, names::AGENT_ALIVE6, "connect6_redirect")?,
    ];
    let mut links = Vec::new();
    for (name, attach_type) in attach::HOOKS {
        let program = program_fd(&ebpf, name)?.as_fd();
        let link =
            attach::attach(options.pins, options.cgroup, name, attach_type, program, &mut undo)?;
        links.push((name, link));
    }
    let tier = if t2 {
        Tier::T2
    } else if t1 {
        Tier::T1
    } else {
        Tier::T0
    };
    let alive = Alive { _arrays: alive, _ebpf: ebpf };
    Ok(Loaded { maps, events, writer_events, links: Links(links), tier, log, alive, undo })
}

/// What [`probe`] found for one program.
#[derive(Debug)]
pub struct Probe {
    /// Program.
    pub name: String,
    /// `Err`: the kernel's error and the verifier's last line.
    pub result: Result<(), String>,
}

/// Tries to load each program by itself, on maps of its own that vanish again. Nothing is attached. The second value says
/// whether the kernel has the transmit-timestamp callback.
pub fn probe() -> Result<(Vec<Probe>, bool), LoadError> {
    let object = object().ok_or(LoadError::NoObject)?;
    let types = KernelTypes::of_running_kernel().ok();
    let btf = Btf::from_sys_fs().ok();
    let have_tx = types.as_ref().is_some_and(|t| t.has_enumerator(TX_TIMESTAMP_ENUMERATOR));
    let offsets = offsets(types.as_ref(), true, have_tx);
    let mut ebpf = open_object(object, btf.as_ref(), &offsets, None)?;
    let names: Vec<String> = ebpf.programs().map(|(name, _)| name.to_owned()).collect();
    let mut probes = Vec::new();
    for name in names {
        let result = if name == SENDMSG_LOCKED {
            trace_load(&mut ebpf, btf.as_ref())
        } else {
            let program = ebpf.program_mut(&name).expect("a name that the object gave");
            load_cgroup_program(program).map_err(|e| explain(&e))
        };
        probes.push(Probe { name, result });
    }
    Ok((probes, have_tx))
}

fn load_programs(
    object: &[u8],
    btf: Option<&Btf>,
    types: Option<&KernelTypes>,
    have_tx: bool,
    pins: Option<&PinFolder>,
) -> Result<Ebpf, LoadError> {
    // What the kernel can do is found by loading: with everything, then without what older kernels lack.
    let mut attempts = vec![(true, have_tx), (true, false), (false, false)];
    attempts.dedup();
    let mut last = None;
    for (retval, tx) in attempts {
        let offsets = offsets(types, retval, tx);
        let mut ebpf = open_object(object, btf, &offsets, pins)?;
        let mut refused = None;
        for name in attach::HOOKS
            .iter()
            .map(|(name, _)| *name)
            .chain(["connect4_redirect", "connect6_redirect"])
        {
            let program = ebpf.program_mut(name).ok_or(MapError::Missing { name })?;
            if let Err(source) = load_cgroup_program(program) {
                refused = Some(LoadError::Program { name, source: Box::new(source) });
                break;
            }
        }
        match refused {
            None => return Ok(ebpf),
            Some(error) => {
                debug!(%error, retval, tx, "the kernel refused this combination");
                last.get_or_insert(error);
            }
        }
    }
    Err(last.expect("at least one attempt was made"))
}

fn offsets(types: Option<&KernelTypes>, retval: bool, tx: bool) -> Offsets {
    Offsets {
        have_set_retval: retval.into(),
        have_tx_timestamp: tx.into(),
        ..types.map(KernelTypes::offsets).unwrap_or_default()
    }
}

fn open_object(
    object: &[u8],
    btf: Option<&Btf>,
    offsets: &Offsets,
    pins: Option<&PinFolder>,
) -> Result<Ebpf, LoadError> {
    let mut loader = EbpfLoader::new();
    loader.btf(btf).override_global(pgward_common::OFFSETS, offsets, true);
    if let Some(pins) = pins {
        for name in PINNED {
            loader.map_pin_path(name, pins.maps().join(name));
        }
    }
    loader.load(object).map_err(|e| LoadError::Object(Box::new(e)))
}

fn load_cgroup_program(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::CgroupSockAddr(p) => p.load(),
        Program::CgroupSock(p) => p.load(),
        Program::CgroupSkb(p) => p.load(),
        Program::SockOps(p) => p.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn trace_load(ebpf: &mut Ebpf, btf: Option<&Btf>) -> Result<(), String> {
    let btf = btf.ok_or("the kernel has no BTF")?;
    match ebpf.program_mut(SENDMSG_LOCKED) {
        Some(Program::BtfTracePoint(p)) => p.load(TRACEPOINT, btf).map_err(|e| explain(&e)),
        _ => Err(format!("the object has no program `{SENDMSG_LOCKED}`")),
    }
}

fn trace_sendmsg(ebpf: &mut Ebpf, btf: Option<&Btf>) -> Result<(), String> {
    trace_load(ebpf, btf)?;
    match ebpf.program_mut(SENDMSG_LOCKED) {
        Some(Program::BtfTracePoint(p)) => p.attach().map(drop).map_err(|e| explain(&e)),
        _ => Err(format!("the object has no program `{SENDMSG_LOCKED}`")),
    }
}

fn mark_alive(
    ebpf: &mut Ebpf,
    array: &'static str,
    program: &'static str,
) -> Result<ProgramArray<MapData>, LoadError> {
    let map = ebpf.take_map(array).ok_or(MapError::Missing { name: array })?;
    let failed = |source| MapError::Operation { operation: "update", name: array, source };
    let mut map = ProgramArray::try_from(map).map_err(failed)?;
    let fd = ebpf
        .program(program)
        .ok_or(MapError::Missing { name: program })?
        .fd()
        .map_err(|e| LoadError::Program { name: program, source: Box::new(e) })?;
    map.set(0, fd, 0).map_err(failed)?;
    Ok(map)
}

fn program_fd<'a>(
    ebpf: &'a Ebpf,
    name: &'static str,
) -> Result<&'a aya::programs::ProgramFd, LoadError> {
    let program = ebpf.program(name).ok_or(MapError::Missing { name })?;
    program.fd().map_err(|e| LoadError::Program { name, source: Box::new(e) })
}

/// The kernel's error with the verifier's last words.
fn explain(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let words = log.lines().rev().filter(|l| !l.trim().is_empty());
            let chatter = ["processed ", "stack depth", "verification time"];
            match words.into_iter().find(|l| !chatter.iter().any(|c| l.starts_with(c))) {
                Some(line) => format!("{io_error}: {}", line.trim()),
                None => io_error.to_string(),
            }
        }
        other => {
            let mut text = other.to_string();
            let mut source = std::error::Error::source(other);
            while let Some(inner) = source {
                text.push_str(&format!(": {inner}"));
                source = inner.source();
            }
            text
        }
    }
}
