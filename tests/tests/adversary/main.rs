//! An adversary who may log in and is after what the policy forbids.
//!
//! `attempts/*.txt` say what it tries. Without a policy an attempt must reach its goal: one that does not would prove
//! nothing by failing later. Under the policy of `tests/policies/adversary.toml` none may, while all of `legitimate.txt`
//! still works.

mod attempt;
mod speak;
mod world;

use std::fmt::Write as _;

use anyhow::{Result, bail, ensure};
use pgward_tests::{needs_kernel as gate, wire};

use crate::attempt::{Attempt, Form, Goal};
use crate::speak::Heard;
use crate::world::{Policy, World};

/// The policy that the attempts are made against: `Some("adversary.toml")`, and `None` while the agent has none: then the
/// tests that need one say that they were not run.
const POLICY: Policy = Some("adversary.toml");

/// Fewer would not be a set.
const ATTEMPTS_MIN: usize = 160;

const ATTEMPTS: [(&str, &str); 6] = [
    ("names", include_str!("attempts/names.txt")),
    ("shapes", include_str!("attempts/shapes.txt")),
    ("roads", include_str!("attempts/roads.txt")),
    ("later", include_str!("attempts/later.txt")),
    ("server", include_str!("attempts/server.txt")),
    ("wire", include_str!("attempts/wire.txt")),
];

const LEGITIMATE: &str = include_str!("legitimate.txt");

#[test]
fn without_a_policy_every_attempt_reaches_its_goal() -> Result<()> {
    gate!();
    let mut world = World::new("unruled", None)?;
    let mut faults = String::new();
    for attempt in all(&world)? {
        // One form shows that the text is good; under the policy all of them are tried.
        let form = *attempt.forms.first().expect("an attempt has a form");
        let (reached, heard) = run(&mut world, &attempt, form)?;
        match (&attempt.never, reached) {
            (None, Some(_)) | (Some(_), None) => {}
            (None, None) => {
                writeln!(faults, "{} ({}): {}", attempt.name, form.name(), told(&heard))?;
            }
            (Some(reason), Some(found)) => {
                writeln!(faults, "{} reached {found}, although {reason}", attempt.name)?;
            }
        }
    }
    ensure!(faults.is_empty(), "attempts that fare otherwise than they should:\n{faults}");
    Ok(())
}

#[test]
fn under_the_policy_no_attempt_reaches_its_goal() -> Result<()> {
    gate!();
    if !has_policy(pgward_tests::here!()) {
        return Ok(());
    }
    let mut world = World::new("ruled", POLICY)?;
    let mut faults = String::new();
    for attempt in all(&world)? {
        for form in &attempt.forms {
            if let (Some(found), heard) = run(&mut world, &attempt, *form)? {
                let (name, form) = (&attempt.name, form.name());
                writeln!(faults, "{name} ({form}) reached {found}: {}", told(&heard))?;
            }
        }
    }
    ensure!(faults.is_empty(), "attempts that reached their goal:\n{faults}");
    Ok(())
}

#[test]
fn without_a_policy_legitimate_statements_pass() -> Result<()> {
    gate!();
    let mut world = World::new("lawful", None)?;
    legitimate(&mut world)
}

#[test]
fn under_the_policy_legitimate_statements_pass() -> Result<()> {
    gate!();
    if !has_policy(pgward_tests::here!()) {
        return Ok(());
    }
    let mut world = World::new("lawful", POLICY)?;
    legitimate(&mut world)
}

fn legitimate(world: &mut World) -> Result<()> {
    let mut faults = String::new();
    for statement in attempt::read(LEGITIMATE, &world.site())? {
        for form in &statement.forms {
            let heard = speak::attempt(world, &statement, *form)?;
            world.settle()?;
            world.restore(None)?;
            let outline = wire::outline(&heard.frames);
            let refused = heard.frames.iter().any(|frame| frame.tag == b'E');
            if refused || !outline.ends_with("ZI") {
                writeln!(faults, "{} ({}): {}", statement.name, form.name(), told(&heard))?;
            }
            if let Some(found) = world.found(&heard.bytes) {
                writeln!(faults, "{} shows `{found}`, which is of the vault", statement.name)?;
            }
        }
    }
    ensure!(faults.is_empty(), "legitimate statements that did not pass:\n{faults}");
    Ok(())
}

/// Makes an attempt, and what it reached, if it did.
fn run(world: &mut World, attempt: &Attempt, form: Form) -> Result<(Option<String>, Heard)> {
    if let Goal::Effect(question) = &attempt.goal {
        ensure!(world.ask(question)? == "f", "{}: its effect is there before it", attempt.name);
    }
    let heard = match speak::attempt(world, attempt, form) {
        Ok(heard) => heard,
        Err(error) => {
            let story = world.scene.agent.story();
            bail!("{} ({}): {error:#}\n{story}", attempt.name, form.name());
        }
    };
    world.settle()?;
    let reached = match &attempt.goal {
        Goal::Canary => world.found(&heard.bytes),
        Goal::Sees(text) => contains(&heard.bytes, text).then(|| text.clone()),
        // A relation or schema that is gone makes a question about it fail: that is no `f` either.
        Goal::Effect(question) => {
            let answer = world.ask(question).unwrap_or_else(|error| format!("{error:#}"));
            (answer != "f").then(|| format!("its effect ({answer})"))
        }
    };
    // Whatever the goal: values of the vault leave in no attempt.
    let reached = reached.or_else(|| world.found(&heard.bytes));
    world.restore(attempt.undo.as_deref())?;
    Ok((reached, heard))
}

fn all(world: &World) -> Result<Vec<Attempt>> {
    let site = world.site();
    let mut attempts = Vec::new();
    for (file, text) in ATTEMPTS {
        for attempt in attempt::read(text, &site)? {
            attempts.push(Attempt { name: format!("{file}/{}", attempt.name), ..attempt });
        }
    }
    ensure!(attempts.len() >= ATTEMPTS_MIN, "{} attempts", attempts.len());
    Ok(attempts)
}

/// Whether the agent has a policy; else says that `test` was not run.
fn has_policy(test: &str) -> bool {
    let ready = POLICY.is_some();
    if !ready {
        let line = format!("NOT RUN: {test}: the agent under test has no policy\n");
        // Past the capture of libtest: a name that was not run must be seen.
        let _ = nix::unistd::write(std::io::stderr(), line.as_bytes());
    }
    ready
}

/// What came back, for messages: the types, and the text of the first error.
fn told(heard: &Heard) -> String {
    let outline: String = wire::outline(&heard.frames).chars().take(120).collect();
    let error = heard.frames.iter().find(|frame| frame.tag == b'E');
    let text = error.map(|frame| wire::error_field(&frame.body, b'M')).unwrap_or_default();
    format!("{outline} {text}")
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
