//! The `pgward` binary.
use std::{path::Path, process::ExitCode};
fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let args: Vec<String> = std::env::args().collect();
    let value = |name: &str| args.iter().position(|a| a == name).and_then(|i| args.get(i + 1));
    let config = value("--config").map(|path| {
        let text = std::fs::read_to_string(path).expect("config");
        (pgward::config::Config::parse(path, &text).unwrap_or_else(|e| { eprintln!("{e}"); std::process::exit(2) }), text)
    });
    match args.get(1).map(String::as_str) {
        Some("run") => {
            let (config, text) = config.expect("--config");
            if let Err(e) = pgward::app::run(&config, text.as_bytes()) {
                eprintln!("error: {e}: {e:?}");
                return ExitCode::from(2);
            }
        }
        Some("detach") => {
            let path = value("--pin-path").map(|p| Path::new(p).to_owned()).or(config.map(|(c, _)| c.bpf.pin_path)).expect("path");
            for name in pgward::bpf::detach(&pgward::bpf::PinFolder::existing(&path)).expect("detach") { println!("removed {name}"); }
        }
        Some("doctor") => {
            for c in pgward::app::doctor::examine(config.as_ref().map(|c| &c.0), value("--pid").and_then(|p| p.parse().ok())) { println!("{:?} {} {}", c.verdict, c.what, c.found); }
        }
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}
