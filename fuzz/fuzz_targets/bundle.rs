//! Any bytes as a bundle of a session: it ends with a report, never with a proof of what nobody signed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgward_fuzz::options;
use pgward_verify::Verdict;
use pgward_verify::bundle::{Bundle, verify_bundle};

fuzz_target!(|data: &[u8]| {
    let options = options(std::path::PathBuf::new());
    let report = verify_bundle(data, &options).expect("the keys are good");
    let Ok(bundle) = Bundle::decode(data) else {
        assert_ne!(report.verdict, Verdict::Intact);
        return;
    };
    // One bundle has one encoding, but for fields that this version does not know.
    let again = bundle.encode();
    assert_eq!(Bundle::decode(&again), Ok(bundle.clone()));
    // Under a checkpoint that somebody signed, other entries prove nothing.
    if report.verdict == Verdict::Intact && !bundle.entries.is_empty() {
        let mut forged = bundle;
        let last = forged.entries.len() - 1;
        forged.entries[last].1.push(0);
        let report = verify_bundle(&forged.encode(), &options).expect("the keys are good");
        assert_ne!(report.verdict, Verdict::Intact);
    }
});
