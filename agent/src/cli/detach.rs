//! `pgward detach`: takes the kernel side away and says so.

use std::io;

use super::{DetachArgs, Exit, Output, load};
use crate::bpf::{self, PinFolder};

/// Removes links and maps. A running agent keeps its sessions, but gets no new ones.
pub fn run(args: &DetachArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    let path = match &args.pin_path {
        Some(path) => path.clone(),
        None => match load(output, &args.config)? {
            Ok(config) => config.bpf.pin_path,
            Err(exit) => return Ok(exit),
        },
    };
    match bpf::detach(&PinFolder::existing(&path)) {
        Ok(removed) if removed.is_empty() => {
            writeln!(output.data, "nothing is attached from `{}`", path.display())?;
            Ok(Exit::Done)
        }
        Ok(removed) => {
            for name in &removed {
                writeln!(output.data, "removed {}", path.join(name).display())?;
            }
            writeln!(output.data, "detached: connections are not intercepted any more")?;
            Ok(Exit::Done)
        }
        Err(error) => output.error(&error),
    }
}
