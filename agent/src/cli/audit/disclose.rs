//! Opening of sealed values with the keys of this host.

use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pgward_verify::Entry;
use pgward_verify::cbor::Value as Cbor;
use serde_json::{Value, json};

use crate::audit::WallNanos;
use crate::audit::schema::f;
use crate::audit::values::{Claim, Disclosed, Keys, disclose};
use crate::audit::view;
use crate::cli::table::printable;
use crate::cli::{Exit, Output};

/// An entry with what is held beside it.
pub(super) struct Sealed {
    pub(super) index: u64,
    pub(super) entry: Vec<u8>,
    pub(super) values: Vec<u8>,
}

/// Number of the commitment in an element of `params`, see `PARAMETER` of the schema.
const PARAMETER_COMMITMENT: u64 = 3;

/// Opens what is held beside entries and prints it. A finding when something can't be opened.
pub(super) fn entries(
    directory: &Path,
    sealed: &[Sealed],
    json: bool,
    output: &mut Output<'_>,
) -> io::Result<Exit> {
    if sealed.is_empty() {
        return writeln!(output.notes, "nothing is held beside it").map(|()| Exit::Done);
    }
    let keys = match Keys::open(&directory.join("keys/values")) {
        Ok(keys) => keys,
        Err(error) => return output.error(&error),
    };
    let mut closed = false;
    for one in sealed {
        match open(&keys, one) {
            Ok(Some(disclosed)) => print(one.index, &disclosed, json, output)?,
            Ok(None) => {}
            Err(error) => {
                closed = true;
                writeln!(output.notes, "entry {}: {}", one.index, printable(&error.to_string()))?;
            }
        }
    }
    Ok(if closed { Exit::Finding } else { Exit::Done })
}

/// `None` when the entry says nothing of values beside it.
fn open(
    keys: &Keys,
    sealed: &Sealed,
) -> Result<Option<Disclosed>, crate::audit::values::DiscloseError> {
    let Ok(entry) = Entry::decode(&sealed.entry) else { return Ok(None) };
    let (Some(session), Some(seq), Some(held)) = (entry.session(), entry.seq(), entry.values())
    else {
        return Ok(None);
    };
    let parameters = parameters(&entry);
    let claim = Claim {
        session: *session,
        seq,
        time: WallNanos(entry.time_ns()),
        held,
        text: entry.array(f::TEXT_COMMITMENT.into()).copied(),
        parameters: &parameters,
        unlisted: entry.array(f::PARAMS_COMMITMENT.into()).copied(),
        payload_sha256: entry.array(f::VALUES_SHA256.into()).copied(),
    };
    disclose(keys, &claim, &sealed.values).map(Some)
}

/// Commitments of the listed parameters, by their number from 0.
fn parameters(entry: &Entry<'_>) -> Vec<(u16, [u8; 32])> {
    let Some(Cbor::Array(listed)) = entry.get(f::PARAMS.into()) else { return Vec::new() };
    let commitment = |value: Cbor<'_>| match value {
        Cbor::Map(parameter) => parameter.get(PARAMETER_COMMITMENT)?.array().copied(),
        Cbor::Uint(_)
        | Cbor::Bytes(_)
        | Cbor::Text(_)
        | Cbor::Array(_)
        | Cbor::Bool(_)
        | Cbor::Null => None,
    };
    (0_u16..).zip(listed.iter()).filter_map(|(at, value)| Some((at, commitment(value)?))).collect()
}

fn print(index: u64, disclosed: &Disclosed, json: bool, output: &mut Output<'_>) -> io::Result<()> {
    if json {
        let parameters: Vec<Value> = disclosed
            .parameters
            .iter()
            .map(|(at, value)| {
                let value = value.as_deref().map_or(Value::Null, shown);
                json!({"parameter": u32::from(*at) + 1, "value": value})
            })
            .collect();
        let text = disclosed.text.as_deref().map(shown);
        let all = json!({"index": index, "disclosed": {"text": text, "params": parameters}});
        return writeln!(output.data, "{}", view::line(&all));
    }
    if let Some(text) = &disclosed.text {
        writeln!(output.data, "{index} text  {}", printable(&String::from_utf8_lossy(text)))?;
    }
    for (at, value) in &disclosed.parameters {
        let value = match value {
            Some(value) => printable(&String::from_utf8_lossy(value)),
            None => "NULL".to_owned(),
        };
        writeln!(output.data, "{index} ${}  {value}", u32::from(*at) + 1)?;
    }
    Ok(())
}

/// A value as text, or as an object where it is no UTF-8.
fn shown(value: &[u8]) -> Value {
    match std::str::from_utf8(value) {
        Ok(text) => text.into(),
        Err(_) => json!({"base64": STANDARD.encode(value)}),
    }
}
