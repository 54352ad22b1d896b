//! One measurement: a load over one way, with the time, the memory and the processor of the process in between.

use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path as FilePath;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use pgward_tests::host;
use pgward_tests::postgres::Cluster;

use super::Bench;
use super::idle::READY;
use super::ways::Path;
use crate::run::{announce, say};

/// Sessions of the memory measurement.
pub(super) const IDLE_SESSIONS: u32 = 1000;

/// Clients of the measurement that connects for each transaction.
const CHURN_CLIENTS: u32 = 4;

/// Name of the data file below the folder of the run.
const ROWS: &str = "rows";

/// Length of a row of the bulk data as text, line end included.
const ROW_BYTES: u64 = 512;

/// How much data there is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// Scale factor of pgbench: 100 000 accounts each.
    pub(super) accounts: u32,
    /// Rows of the bulk data.
    pub(super) rows: u64,
}

impl Scale {
    /// Size of the bulk data.
    pub(super) fn bytes(&self) -> u64 {
        self.rows * ROW_BYTES
    }
}

/// 2 000 000 accounts; 1 GB.
pub(super) const FULL: Scale = Scale { accounts: 20, rows: 1_953_125 };

/// 1 000 000 accounts, and no bulk to speak of.
pub(super) const ACCOUNTS: Scale = Scale { accounts: 10, rows: 20_000 };

/// To see that everything works.
pub(super) const QUICK: Scale = Scale { accounts: 1, rows: 20_000 };

/// Query mode of pgbench, its `-M`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Simple,
    Extended,
    Prepared,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Mode::Simple => "simple",
            Mode::Extended => "extended",
            Mode::Prepared => "prepared",
        }
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    /// `pgbench -S`: one row by primary key.
    Select { mode: Mode, clients: u32 },
    /// The same, with a connection for each transaction.
    Connect,
    /// `COPY .. TO STDOUT`.
    CopyOut,
    /// `COPY .. FROM STDIN`.
    CopyIn,
    /// Memory of idle sessions.
    Idle,
}

impl Case {
    /// All, in the order of the tables.
    pub(super) fn all() -> Vec<Case> {
        let modes = [Mode::Simple, Mode::Extended, Mode::Prepared];
        let selects = modes.into_iter().flat_map(|mode| {
            [1, 8, 32].into_iter().map(move |clients| Case::Select { mode, clients })
        });
        selects.chain([Case::Connect, Case::CopyOut, Case::CopyIn, Case::Idle]).collect()
    }

    /// Name in tables and for `--only`.
    pub(super) fn name(&self) -> String {
        match self {
            Case::Select { mode, clients: 1 } => format!("select {}, 1 client", mode.name()),
            Case::Select { mode, clients } => format!("select {}, {clients} clients", mode.name()),
            Case::Connect => format!("connect, {CHURN_CLIENTS} clients"),
            Case::CopyOut => "copy out".to_owned(),
            Case::CopyIn => "copy in".to_owned(),
            Case::Idle => format!("idle, {IDLE_SESSIONS} sessions"),
        }
    }
}

/// Outcome of one measurement. CPU and memory are those of the process in between, 0 for the direct way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Figures {
    /// Transactions per second, microseconds of CPU per transaction.
    Transactions { per_second: f64, cpu_us: f64 },
    /// Megabytes (10^6) per second, seconds of CPU per gigabyte (10^9).
    Bulk { mb_per_second: f64, cpu_s_per_gb: f64 },
    /// KiB before any session, and how many KiB more with all of them.
    Memory { base_kib: f64, growth_kib: f64 },
}

impl Figures {
    /// The rate, larger is better; for memory the growth, smaller is better.
    pub(super) fn main(&self) -> f64 {
        match self {
            Figures::Transactions { per_second, .. } => *per_second,
            Figures::Bulk { mb_per_second, .. } => *mb_per_second,
            Figures::Memory { growth_kib, .. } => *growth_kib,
        }
    }

    /// The cost: CPU; for memory the base.
    pub(super) fn cost(&self) -> f64 {
        match self {
            Figures::Transactions { cpu_us, .. } => *cpu_us,
            Figures::Bulk { cpu_s_per_gb, .. } => *cpu_s_per_gb,
            Figures::Memory { base_kib, .. } => *base_kib,
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Figures::Transactions { per_second, cpu_us } => {
                write!(f, "{per_second:.0} tps, {cpu_us:.1} us CPU each")
            }
            Figures::Bulk { mb_per_second, cpu_s_per_gb } => {
                write!(f, "{mb_per_second:.0} MB/s, {cpu_s_per_gb:.2} s CPU per GB")
            }
            Figures::Memory { base_kib, growth_kib } => {
                write!(f, "{growth_kib:.0} KiB more than {base_kib:.0} KiB")
            }
        }
    }
}

/// Makes the data: pgbench's tables, and the bulk rows as a table and as a file.
pub(super) fn load(cluster: &Cluster, folder: &FilePath, scale: &Scale) -> Result<()> {
    let mut init = cluster.client("pgbench", "127.0.0.1");
    init.args(["--initialize", "--quiet", "--scale", &scale.accounts.to_string()]);
    announce(&init);
    host::run(&mut init)?;
    // 11 digits, a tab, the text, a line end.
    let text = ROW_BYTES - 13;
    cluster.sql(
        "postgres",
        &format!(
            "CREATE UNLOGGED TABLE bulk AS SELECT 10000000000 + n AS id, repeat('x', {text}) AS t \
             FROM generate_series(1, {}) AS n; CREATE UNLOGGED TABLE sink (id bigint, t text)",
            scale.rows
        ),
    )?;
    cluster.sql("postgres", "VACUUM ANALYZE")?;
    let path = folder.join(ROWS);
    let mut copy = cluster.client("psql", "127.0.0.1");
    copy.args(["-X", "-q", "-c", "COPY bulk TO STDOUT"]).stdout(File::create(&path)?);
    ensure!(copy.status()?.success(), "writing the bulk data failed");
    let length = fs::metadata(&path)?.len();
    ensure!(length == scale.bytes(), "bulk data: found {length} bytes, expected {}", scale.bytes());
    Ok(())
}

/// Measures one case over one way.
pub(super) fn measure(case: &Case, path: Path<'_>, bench: &Bench) -> Result<Figures> {
    match case {
        Case::Select { mode, clients } => {
            pgbench(path, bench, &["-M", mode.name(), "-c", &clients.to_string()])
        }
        Case::Connect => pgbench(path, bench, &["-C", "-c", &CHURN_CLIENTS.to_string()]),
        Case::CopyOut => bulk(path, bench, "COPY bulk TO STDOUT", None),
        // Rows go through the server's parser and are then dropped, so that no disk is measured.
        Case::CopyIn => {
            let rows = File::open(bench.scratch.folder().join(ROWS))?;
            bulk(path, bench, "COPY sink FROM STDIN WHERE id = 0", Some(rows))
        }
        Case::Idle => idle(path),
    }
}

fn pgbench(path: Path<'_>, bench: &Bench, arguments: &[&str]) -> Result<Figures> {
    let mut load = bench.cluster.client("pgbench", "127.0.0.1");
    load.args(["-n", "-S", "-T", &bench.seconds.to_string()]).args(arguments);
    if arguments.last() != Some(&"1") {
        load.args(["-j", "2"]);
    }
    take(path, &mut load)?;
    timed(path.pid, &mut load)
}

/// Runs pgbench and takes its report, and the processor time of the process in between meanwhile.
pub(super) fn timed(pid: Option<u32>, load: &mut Command) -> Result<Figures> {
    let before = cpu_seconds(pid)?;
    let output = host::run(load)?;
    let cpu = cpu_seconds(pid)? - before;
    let (transactions, per_second) = parse_pgbench(&output)?;
    Ok(Figures::Transactions { per_second, cpu_us: cpu * 1e6 / transactions })
}

/// Number of transactions and their rate, from pgbench's report.
fn parse_pgbench(report: &str) -> Result<(f64, f64)> {
    let after = |what: &str| -> Result<f64> {
        let line = report.lines().find_map(|line| line.strip_prefix(what));
        let word = line.and_then(|rest| rest.split([' ', '/']).find(|word| !word.is_empty()));
        let number = word.with_context(|| format!("pgbench reports no `{what}`:\n{report}"))?;
        number.parse().with_context(|| format!("`{what}`: found `{number}`, expected a number"))
    };
    let transactions = after("number of transactions actually processed: ")?;
    ensure!(transactions > 0.0, "pgbench made no transaction:\n{report}");
    let failed = report.lines().find(|line| line.starts_with("number of failed transactions: "));
    if failed.is_some_and(|line| !line.starts_with("number of failed transactions: 0 ")) {
        bail!("transactions failed:\n{report}");
    }
    Ok((transactions, after("tps = ")?))
}

fn bulk(path: Path<'_>, bench: &Bench, statement: &str, input: Option<File>) -> Result<Figures> {
    let mut copy = bench.cluster.client("psql", "127.0.0.1");
    copy.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement]);
    copy.stdin(input.map_or_else(Stdio::null, Stdio::from)).stdout(Stdio::null());
    take(path, &mut copy)?;
    let before = cpu_seconds(path.pid)?;
    let began = Instant::now();
    let status = copy.status().with_context(|| format!("starting {copy:?}"))?;
    let seconds = began.elapsed().as_secs_f64();
    let cpu = cpu_seconds(path.pid)? - before;
    ensure!(status.success(), "{copy:?}: {status}");
    let bytes = bench.scale.bytes() as f64;
    Ok(Figures::Bulk { mb_per_second: bytes / 1e6 / seconds, cpu_s_per_gb: cpu * 1e9 / bytes })
}

fn idle(path: Path<'_>) -> Result<Figures> {
    let pid = path.pid.context("there is no process in between")?;
    let base_kib = resident_kib(pid)?;
    let mut clients = Command::new(std::env::current_exe()?);
    clients.args(["idle-clients", "--to", &format!("127.0.0.1:{}", path.port)]);
    clients.args(["--count", &IDLE_SESSIONS.to_string()]);
    clients.stdin(Stdio::piped()).stdout(Stdio::piped());
    take(path, &mut clients)?;
    let mut clients = clients.spawn().context("starting the idle clients")?;
    let mut line = String::new();
    let output = clients.stdout.take().context("piped")?;
    BufReader::new(output).read_line(&mut line).context("waiting for the idle clients")?;
    let full_kib = resident_kib(pid)?;
    // The end of its input ends it.
    drop(clients.stdin.take());
    let status = clients.wait()?;
    ensure!(line.trim() == READY && status.success(), "the idle clients failed: {status}");
    Ok(Figures::Memory { base_kib, growth_kib: full_kib - base_kib })
}

/// Makes a client take a way.
fn take(path: Path<'_>, client: &mut Command) -> Result<()> {
    client.env("PGPORT", path.port.to_string());
    client.env("PGSSLMODE", "disable").env("PGGSSENCMODE", "disable");
    match path.cgroup {
        Some(cgroup) => cgroup.enter(client),
        None => Ok(()),
    }
}

/// User and system time of the process in between so far, in seconds, to the nanosecond, ended threads included; 0 when
/// there is none.
pub(super) fn cpu_seconds(pid: Option<u32>) -> Result<f64> {
    let Some(pid) = pid else { return Ok(0.0) };
    let gone = || format!("process {pid} is gone");
    let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(pid)?)).with_context(gone)?;
    let time = clock.now().with_context(gone)?;
    Ok(Duration::from(time).as_secs_f64())
}

pub(super) fn resident_kib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid} is gone"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let number = line.split_whitespace().next().context("VmRSS is empty")?;
    number.parse().with_context(|| format!("VmRSS: found `{number}`, expected a number"))
}

/// One line about the machine, for the document.
pub(super) fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models: Vec<&str> = cpus
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map(|(_, name)| name.trim())
        .collect();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    let gib = kib.unwrap_or_default() as f64 / 1024.0 / 1024.0;
    let model = models.first().copied().unwrap_or("unknown processor");
    if models.is_empty() {
        say("note: /proc/cpuinfo names no processor");
    }
    format!("{} x {model}, {gib:.0} GiB memory", models.len().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_report_of_pgbench() {
        let report = "transaction type: <builtin: select only>\nnumber of clients: 8\n\
                      number of transactions actually processed: 91234\n\
                      number of failed transactions: 0 (0.000%)\nlatency average = 0.350 ms\n\
                      initial connection time = 9.1 ms\n\
                      tps = 22857.142857 (without initial connection time)\n";
        assert_eq!(parse_pgbench(report).expect("report"), (91234.0, 22857.142857));
        let limited = "number of transactions actually processed: 50/50\ntps = 10.0 (x)\n";
        assert_eq!(parse_pgbench(limited).expect("report"), (50.0, 10.0));
        assert!(
            parse_pgbench(&report.replace("transactions: 0 (0", "transactions: 3 (1")).is_err()
        );
        assert!(parse_pgbench("pgbench: error").is_err());
    }

    #[test]
    fn processor_time_of_a_process_grows_with_its_work() {
        let own = Some(std::process::id());
        let before = cpu_seconds(own).expect("a running process");
        while cpu_seconds(own).expect("a running process") <= before {}
        assert_eq!(cpu_seconds(None).expect("no process"), 0.0);
        // Above the largest that Linux gives (2^22, proc(5)).
        assert!(cpu_seconds(Some(1 << 23)).is_err());
    }

    #[test]
    fn every_case_has_its_own_name() {
        let mut names: Vec<_> = Case::all().iter().map(Case::name).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!((names.len(), count), (13, 13));
    }
}
