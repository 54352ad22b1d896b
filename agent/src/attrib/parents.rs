//! The chain of parents.

use std::sync::Arc;

use super::identity::{Parent, Reason};
use super::source::{ProcHandle, ProcLink, ProcSource, ProcStat, SourceError};

/// Most parents followed.
pub const PARENTS_MAX: usize = 16;

/// A process and its parents.
pub(super) struct Line {
    pub(super) parents: Vec<Parent>,
    /// Pid and start in ticks, the process first.
    pub(super) links: Vec<(u32, u64)>,
    /// Why the chain ends before the first process of the pid namespace.
    pub(super) broken: Option<Reason>,
}

/// Follows parents as far as they can be followed, at most [`PARENTS_MAX`].
///
/// The pid of a parent may be another process by the time it is opened: the child is asked again
/// afterwards, as a child whose parent ended has another one; and no parent is younger than its
/// child.
pub(super) fn follow(
    source: &dyn ProcSource,
    pid: u32,
    handle: &Arc<dyn ProcHandle>,
    stat: &ProcStat,
    tick_ns: u64,
) -> Line {
    let mut line = Line { parents: Vec::new(), links: vec![(pid, stat.start_ticks)], broken: None };
    let (mut child_pid, mut child, mut child_stat) = (pid, Arc::clone(handle), stat.clone());
    while child_stat.ppid != 0 {
        if line.parents.len() == PARENTS_MAX {
            line.broken = Some(Reason::MoreParents(PARENTS_MAX));
            break;
        }
        let parent_pid = child_stat.ppid;
        let (parent, parent_stat) = match open_parent(source, &child, &child_stat) {
            Ok(opened) => opened,
            Err(SourceError::Denied) => {
                line.broken = Some(Reason::Denied);
                break;
            }
            Err(_) => {
                line.broken = Some(Reason::ParentsBroken(child_pid));
                break;
            }
        };
        if line.links.iter().any(|(seen, _)| *seen == parent_pid) {
            line.broken = Some(Reason::ParentsBroken(child_pid));
            break;
        }
        line.links.push((parent_pid, parent_stat.start_ticks));
        line.parents.push(Parent {
            pid: parent_pid,
            start_ns: parent_stat.start_ticks.saturating_mul(tick_ns),
            exe: parent.link(ProcLink::Exe).ok().map(|exe| exe.to_string_lossy().into_owned()),
            comm: parent_stat.comm.clone(),
        });
        (child_pid, child, child_stat) = (parent_pid, parent, parent_stat);
    }
    line
}

fn open_parent(
    source: &dyn ProcSource,
    child: &Arc<dyn ProcHandle>,
    child_stat: &ProcStat,
) -> Result<(Arc<dyn ProcHandle>, ProcStat), SourceError> {
    let parent = source.open(child_stat.ppid)?;
    let stat = parent.stat()?;
    let is_older = stat.start_ticks <= child_stat.start_ticks;
    if is_older && child.stat()?.ppid == child_stat.ppid {
        Ok((parent, stat))
    } else {
        Err(SourceError::Gone)
    }
}
