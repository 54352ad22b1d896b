//! The `pgward` binary.
fn main() {
    let (probes, tx) = pgward::bpf::probe().expect("probe");
    for p in probes {
        println!("{} {:?}", p.name, p.result);
    }
    println!("tx {tx}");
}
