//! An identity on one line.

use std::fmt::Write as _;

use super::identity::{Confidence, Identity};

/// Most characters of a summary; the end is cut and marked with an ellipsis.
const SUMMARY_CHARS_MAX: usize = 240;

pub(super) fn of(identity: &Identity) -> String {
    let mut line = String::new();
    push(&mut line, &identity.comm);
    // Writing to a string does not fail.
    let _ = write!(line, "[{}] ", identity.pid);
    match &identity.user {
        Some(user) => push(&mut line, user),
        None => {
            let _ = write!(line, "uid={}", identity.uid);
        }
    }
    if let Some(container) = &identity.container {
        line.push_str(" container=");
        push(&mut line, container.name.as_deref().unwrap_or(short(&container.id)));
        let _ = write!(line, "({}", container.runtime.as_str());
        if let Some(uid) = container.claimed_by {
            let _ = write!(line, ", claimed by uid {uid}");
        }
        line.push(')');
        if let Some(pod) = &container.pod {
            line.push_str(" pod=");
            if let Some(namespace) = &container.namespace {
                push(&mut line, namespace);
                line.push('/');
            }
            push(&mut line, pod);
        }
    } else if let Some(unit) = &identity.unit {
        line.push_str(" unit=");
        push(&mut line, unit);
    }
    if let Some(exe) = &identity.exe {
        line.push(' ');
        push(&mut line, exe);
    }
    match identity.confidence {
        Confidence::Confirmed => {}
        Confidence::Unconfirmed => line.push_str(" (by pid alone)"),
        Confidence::KernelOnly => line.push_str(" (gone)"),
    }
    if let Some((cut, _)) = line.char_indices().nth(SUMMARY_CHARS_MAX) {
        line.truncate(cut);
        line.push('…');
    }
    line
}

/// Appends `text` with control characters, and those that only steer its display, escaped.
fn push(line: &mut String, text: &str) {
    for c in text.chars() {
        if c == '\'' || c == '"' || c == '\\' {
            line.push(c);
        } else {
            line.extend(c.escape_debug());
        }
    }
}

/// The 12 digits by which people know a container.
fn short(id: &str) -> &str {
    if id.len() == 64 { id.get(..12).unwrap_or(id) } else { id }
}
