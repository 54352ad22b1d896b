//! What a startup packet may ask for.

use anyhow::Context;
use pgward_tests::wire::{outline, read_frame};

use crate::{Client, Result, Said, Stage, gate};

/// Nobody sets where names are looked up.
const NO_PATH: &str = r#"
[[role]]
name = "all"

[[role.deny]]
name = "no-path"
actions = ["set"]
settings = ["search_path"]

[[assign]]
give = ["all"]
everyone = true
"#;

#[test]
fn a_setting_that_is_denied_is_denied_at_the_start_too() -> Result {
    gate!();
    let stage = Stage::new("startup", NO_PATH)?;
    let login = [("user", "postgres"), ("database", "postgres")];
    for asked in [
        ("options", "-c search_path=other"),
        ("options", "-csearch_path=other"),
        ("options", "--search-path=other"),
        ("search_path", "other"),
    ] {
        let mut visitor = stage.start(&[&login[..], &[asked]].concat())?;
        let told = read_frame(&mut visitor)?.context("closed without a word")?;
        let told = Said::by(&told);
        let code = (told.severity.as_str(), told.sqlstate.as_str());
        assert_eq!(code, ("FATAL", "42501"), "{asked:?}: {told:?}");
        assert_eq!(told.message, "permission denied to set parameter \"search_path\"");
    }
    let others =
        [&login[..], &[("options", "-c work_mem=1MB"), ("application_name", "x")]].concat();
    let mut client = Client::finish_start(stage.start(&others)?)?;
    assert_eq!(client.value("show work_mem")?, "1MB");
    assert_eq!(outline(&client.simple("set search_path to other")?), "E(42501)ZI");
    drop(client);
    stage.verify()
}
