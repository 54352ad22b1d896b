//! Where the trail is, and that somebody reads it.

use std::io;
use std::path::{Path, PathBuf};

use pgward_verify::{ReadError, Trail};

use super::args::{Place, ReindexArgs};
use super::moment::Moment;
use super::progress::Progress;
use crate::audit::WallNanos;
use crate::audit::search::{SearchError, Segments};
use crate::cli::table::printable;
use crate::cli::{Exit, Output, load};
use crate::config::Config;
use crate::control::{READ_ARGUMENTS_BYTES_MAX, Request, ask};

/// A trail to be read.
pub(in crate::cli) struct Source {
    pub(super) directory: PathBuf,
    /// Where the agent that writes it answers.
    socket: Option<PathBuf>,
}

/// What a command was asked for, as it is recorded: `name=value` pairs.
#[derive(Default)]
pub(in crate::cli) struct Asked(Vec<String>);

impl Asked {
    /// Adds one, if there is one.
    pub(in crate::cli) fn with(
        mut self,
        name: &str,
        value: Option<impl std::fmt::Display>,
    ) -> Self {
        self.0.extend(value.map(|value| format!("{name}={value}")));
        self
    }

    /// Adds a moment, if there is one.
    pub(in crate::cli) fn with_moment(self, name: &str, moment: Option<Moment>) -> Self {
        let rfc3339 = |Moment(ns)| WallNanos(ns).rfc3339();
        let text = moment.map(rfc3339);
        self.with(name, text.as_ref().map(|text| String::from_utf8_lossy(text)))
    }

    fn text(&self) -> String {
        let mut text = self.0.join(" ");
        let mut end = text.len().min(READ_ARGUMENTS_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text
    }
}

/// The trail that is meant, or the exit after printing why there is none.
pub(in crate::cli) fn source(
    place: &Place,
    output: &mut Output<'_>,
) -> io::Result<Result<Source, Exit>> {
    match &place.directory {
        Some(directory) => Ok(Ok(Source { directory: directory.clone(), socket: None })),
        None => Ok(load(output, &place.config)?.map(Source::of)),
    }
}

impl Source {
    /// The trail of this host.
    pub(super) fn of(config: Config) -> Self {
        Self { directory: config.audit.directory, socket: Some(config.agent.control_socket) }
    }

    /// Tells the agent that the trail is read, and says where it can't be told. Gives whether it is
    /// recorded.
    pub(in crate::cli) fn tell(
        &self,
        command: &str,
        asked: &Asked,
        output: &mut Output<'_>,
    ) -> io::Result<bool> {
        let Some(socket) = &self.socket else {
            writeln!(output.notes, "this read is not recorded: a folder was named")?;
            return Ok(false);
        };
        let request = Request::AuditRead { command: command.to_owned(), arguments: asked.text() };
        match ask(socket, request) {
            Ok(_) => Ok(true),
            Err(error) => {
                let why = printable(&error.to_string());
                writeln!(output.notes, "this read is not recorded: {why}").map(|()| false)
            }
        }
    }

    /// Opens the trail, or prints why not.
    pub(in crate::cli) fn open(&self, output: &mut Output<'_>) -> io::Result<Result<Trail, Exit>> {
        match Trail::open(&self.directory) {
            Ok(trail) => Ok(Ok(trail)),
            Err(error) => output.error(&error).map(Err),
        }
    }
}

/// Opens the segments of an epoch with their indices, with progress.
pub(super) fn segments(epoch: &pgward_verify::Epoch) -> Result<Segments, SearchError> {
    let progress = Progress::new("segments without an index read", None);
    Segments::open(epoch, |count| progress.add(count))
}

/// Prints what could not be read. Gives whether there was something.
pub(super) fn print_unread(unread: &[SearchError], output: &mut Output<'_>) -> io::Result<bool> {
    for error in unread {
        output.error(error)?;
    }
    Ok(!unread.is_empty())
}

/// `pgward audit reindex`
pub(super) fn reindex(args: &ReindexArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    let source = match source(&args.place, output)? {
        Ok(source) => source,
        Err(exit) => return Ok(exit),
    };
    let trail = match source.open(output)? {
        Ok(trail) => trail,
        Err(exit) => return Ok(exit),
    };
    for epoch in trail.epochs() {
        let all = epoch.pieces().len() as u64;
        let written = segments(epoch).and_then(|mut segments| {
            if args.all {
                let progress = Progress::new("segments read", Some(all));
                segments.make_all(|count| progress.add(count))?;
            }
            let progress = Progress::new("indices written", Some(all));
            segments.write_made(|count| progress.add(count))
        });
        match written {
            Ok(written) => {
                writeln!(output.data, "epoch {}: {written} indices written", epoch.number)?;
            }
            Err(error) => return output.error(&error),
        }
    }
    Ok(Exit::Done)
}

/// The file or folder at `path` can't be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} `{}`", path.display())]
pub(super) struct FileError {
    path: PathBuf,
    operation: &'static str,
    source: io::Error,
}

impl FileError {
    pub(super) fn new(path: &Path, operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { path, operation, source }
    }
}

/// So that a damaged part is told apart from the end of what is there.
pub(super) fn is_missing(error: &ReadError) -> bool {
    matches!(error, ReadError::Missing { .. })
}
