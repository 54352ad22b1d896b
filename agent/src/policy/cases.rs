//! Runs the cases of a policy.

use std::fmt;
use std::sync::Arc;

use super::model::{Case, Expect, Policy};
use super::need::Request;
use super::verdict::{Outcome, Verdict};
use super::window::WallTime;

/// Turns a text into what its statements ask for; never empty for a text that has any statement or can't be read.
pub type Requests<'r> = dyn Fn(&str) -> Vec<Request> + 'r;

/// A case and how it came out.
#[derive(Debug)]
pub struct Ran<'p> {
    /// The case.
    pub case: &'p Case,
    /// What is wrong, if anything is.
    pub failure: Option<Failure>,
}

/// Why a case failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Another verdict.
    Verdict {
        /// The verdict that came.
        found: Expect,
        /// Rules that decided.
        rules: Vec<Arc<str>>,
        /// Why it is refused, if it is.
        message: Option<String>,
    },
    /// The rule that was named is not among those that decided.
    Rule {
        /// Those that did.
        rules: Vec<Arc<str>>,
    },
    /// It depends on the time, and the case has none.
    Time,
    /// The text has no statement.
    Empty,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = |rules: &[Arc<str>]| {
            let names: Vec<String> = rules.iter().map(|rule| format!("`{rule}`")).collect();
            if names.is_empty() { "no rule".to_owned() } else { names.join(", ") }
        };
        match self {
            Self::Verdict { found, rules, message } => {
                write!(f, "found {}, by {}", found.name(), by(rules))?;
                message.iter().try_for_each(|message| write!(f, ": {message}"))
            }
            Self::Rule { rules } => write!(f, "decided by {}", by(rules)),
            Self::Time => f.write_str("the verdict depends on the time, and there is no `at`"),
            Self::Empty => f.write_str("the text has no statement"),
        }
    }
}

impl Verdict {
    /// How the statement fares, in the words of cases.
    pub fn word(&self) -> Expect {
        match self.outcome() {
            Outcome::Allow => Expect::Allow,
            Outcome::Observe(_) => Expect::Observe,
            Outcome::Warn(_) => Expect::Warn,
            Outcome::Deny(_) => Expect::Deny,
        }
    }

    /// The verdict of a text: that of the statement that fares worst, the first of those alike.
    pub fn worst(verdicts: impl IntoIterator<Item = Self>) -> Option<Self> {
        let mode = |verdict: &Self| verdict.denial().map(|denial| denial.mode);
        verdicts
            .into_iter()
            .reduce(|one, other| if mode(&other) > mode(&one) { other } else { one })
    }
}

impl Policy {
    /// Runs each of its cases.
    pub fn run_cases(&self, requests: &Requests<'_>) -> Vec<Ran<'_>> {
        self.cases.iter().map(|case| Ran { case, failure: self.fails(case, requests) }).collect()
    }

    fn fails(&self, case: &Case, requests: &Requests<'_>) -> Option<Failure> {
        let class = self.class(&case.who);
        let requests = requests(&case.sql);
        let at = case.at.unwrap_or(WallTime(0));
        let verdicts: Vec<Verdict> =
            requests.iter().map(|request| self.judge(&class, request, at)).collect();
        if case.at.is_none() && verdicts.iter().any(|verdict| verdict.until().is_some()) {
            return Some(Failure::Time);
        }
        let rules: Vec<Arc<str>> = verdicts.iter().flat_map(|v| v.rules()).cloned().collect();
        let Some(verdict) = Verdict::worst(verdicts) else { return Some(Failure::Empty) };
        if verdict.word() != case.expect {
            return Some(Failure::Verdict {
                found: verdict.word(),
                rules: verdict.rules().to_vec(),
                message: verdict.denial().map(|denial| denial.message(None)),
            });
        }
        // An allowed text is allowed by what each of its statements needed.
        let deciding = if verdict.denial().is_some() { verdict.rules() } else { &rules };
        let named = |rule: &str| deciding.iter().any(|name| **name == *rule);
        let missed = case.rule.as_deref().is_some_and(|rule| !named(rule));
        missed.then(|| Failure::Rule { rules: deciding.to_vec() })
    }
}
