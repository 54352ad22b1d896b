//! Anchors as they are configured.

use std::path::Path;
use std::sync::Arc;

use crate::audit::anchors::{Cosigned, Database, Folder, Place, Printer, Ready, Witness};
use crate::config::{Anchor, AnchorPlace};
use crate::net::destinations::Destinations;
use crate::net::dial::Dialer;

use super::{Proofs, TrailError};

/// Where anchors reach a server from.
pub struct Reach<'a> {
    /// Servers by name.
    pub destinations: &'a Destinations,
    /// Marks sockets as the agent's own.
    pub dialer: Option<Dialer>,
}

/// All of them. `epoch` is the folder of the log, where cosignatures are kept.
pub(super) fn ready(
    anchors: &[Anchor],
    reach: &Reach<'_>,
    proofs: &Arc<Proofs>,
    epoch: &Path,
) -> Result<Vec<Ready>, TrailError> {
    let cosigned = Arc::new(Cosigned::new(epoch));
    let made = anchors.iter().map(|anchor| {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| TrailError::Anchor {
            name: anchor.name.clone(),
            source,
        };
        let (kind, place): (_, Box<dyn Place>) = match &anchor.place {
            AnchorPlace::Print(to) => ("print", Box::new(Printer::new(*to))),
            AnchorPlace::File(path) => ("file", Box::new(Folder::new(path.clone()))),
            AnchorPlace::Database(settings) => {
                let database = Database::new(settings, reach.destinations, reach.dialer.clone());
                ("database", Box::new(database.map_err(|error| failed(Box::new(error)))?))
            }
            AnchorPlace::Witness(settings) => {
                let dialer = reach.dialer.clone();
                let witness = Witness::new(settings, proofs.clone(), cosigned.clone(), dialer);
                ("witness", Box::new(witness.map_err(|error| failed(Box::new(error)))?))
            }
        };
        Ok(Ready { name: anchor.name.clone(), kind, every: anchor.every, place })
    });
    made.collect()
}
