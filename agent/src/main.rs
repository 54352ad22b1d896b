//! The `pgward` binary.
fn main() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let args: Vec<String> = std::env::args().collect();
    if args[1] == "run" {
        let text = std::fs::read_to_string(&args[3]).expect("config");
        let config = pgward::config::Config::parse(&args[3], &text).expect("cfg");
        if let Err(e) = pgward::app::run(&config, text.as_bytes()) { eprintln!("{e}: {:?}", e); std::process::exit(2); }
    } else if args[1] == "detach" {
        println!("{:?}", pgward::bpf::detach(&pgward::bpf::PinFolder::existing(std::path::Path::new(&args[2]))));
    }
}
