//! `pgward audit export`
use super::args::ExportArgs;
use crate::cli::{Exit, Output};
use std::io;
pub(super) fn run(_args: &ExportArgs, _output: &mut Output<'_>) -> io::Result<Exit> {
    Ok(Exit::Failed)
}
