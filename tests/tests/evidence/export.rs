//! Entries for other programs: each thing once, each line as its format wants it, and nothing that is sealed.

use std::io::Write as _;

use anyhow::{Context, bail, ensure};
use pgward_tests::scene::mark;
use pgward_tests::sweep::Secrets;
use pgward_tests::trail::Entry;
use pgward_tests::wait::PATIENCE;
use pgward_tests::wire;
use pgward_tests::witness::tree;
use serde_json::Value;

use crate::house::House;
use crate::{Result, gate};

/// Index of an entry, and what it is called in an export.
type Line = (u64, String);
/// Reads an export, as strictly as its format is written down.
type Read = fn(&str) -> Result<Vec<Line>>;

#[test]
fn every_export_has_everything_once_and_nothing_sealed() -> Result {
    gate!();
    let sealed =
        |builder: pgward_tests::agent::Builder| builder.set("audit", "values", "\"sealed\"");
    let house = House::new("export", sealed)?;
    let [literal, parameter] = ["literal", "parameter"].map(mark);
    let secrets = Secrets::default();
    secrets.add("a literal", literal.as_bytes());
    secrets.add("a parameter", parameter.as_bytes());
    let mut client = house.client()?;
    // Names are no secrets: what separates fields, cells and lines of a format is in them.
    client.simple(&format!("select '{literal}' as \"a|b,c=d\\\"\"e\",\r\n 1 as one"))?;
    client.simple(&format!("select '{literal}' from nowhere"))?;
    let bound = wire::bind("", "", &[Some(&parameter)]);
    let message = [wire::parse("", "select $1::text"), bound, wire::execute("", 0), wire::sync()];
    client.stream.write_all(&message.concat())?;
    wire::read_until_ready(&mut client.stream)?;
    drop(client);
    house.scene.agent.wait_for(|record| record["event"] == "session_end", PATIENCE)?;

    let entries = house.scene.agent.entries()?;
    let end = entries.len() as u64;
    let expected = expected(&entries);
    assert_eq!(expected.iter().filter(|(_, event)| event == "statement").count(), 3);
    let formats: [(&str, Read); 4] = [("jsonl", jsonl), ("ocsf", ocsf), ("cef", cef), ("csv", csv)];
    for (format, read) in formats {
        let text = house.pgward_done(&["audit", "export", "--format", format])?;
        let mut lines = read(&text).with_context(|| format!("{format}:\n{text}"))?;
        // The export itself is on record behind them.
        lines.retain(|(index, _)| *index < end);
        lines.sort();
        assert_eq!(lines, expected, "{format}");
        assert_eq!(secrets.search(format, text.as_bytes()), Vec::<String>::new());
        assert!(text.contains("nowhere"), "{format} has the statements");
    }

    // Raw, every entry is there with the hash that its proof is about.
    let text = house.pgward_done(&["audit", "export", "--format", "jsonl", "--raw"])?;
    let lines =
        text.lines().map(serde_json::from_str).collect::<serde_json::Result<Vec<Value>>>()?;
    for (at, entry) in entries.iter().enumerate() {
        let line = lines.get(at).context("an entry is missing")?;
        let leaf: String = tree::leaf(&entry.bytes).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!((&line["index"], &line["leaf"]), (&entry.index.into(), &leaf.into()));
        assert_eq!(line["event"], entry.fields["event"], "{line}");
    }
    let indices: Vec<u64> = lines.iter().filter_map(|line| line["index"].as_u64()).collect();
    assert_eq!(indices, (0..lines.len() as u64).collect::<Vec<_>>(), "each once, in order");
    assert_eq!(secrets.search("raw", text.as_bytes()), Vec::<String>::new());
    house.finish()
}

/// What entries come to: a statement at its outcome, a login at its end, the rest by itself.
fn expected(entries: &[Entry]) -> Vec<Line> {
    let name = |entry: &Entry| -> Option<String> {
        match entry.fields["event"].as_str()? {
            "outcome" => Some("statement".to_owned()),
            "authentication" => Some("session_start".to_owned()),
            "session_start" | "writer" | "statement" | "intent" => None,
            other => Some(other.to_owned()),
        }
    };
    entries.iter().filter_map(|entry| Some((entry.index, name(entry)?))).collect()
}

fn text_of(value: &Value) -> Result<String> {
    Ok(value.as_str().with_context(|| format!("no text: {value}"))?.to_owned())
}

fn jsonl(text: &str) -> Result<Vec<Line>> {
    let each = |line: &str| -> Result<Line> {
        let object: Value = serde_json::from_str(line)?;
        Ok((object["index"].as_u64().context("index")?, text_of(&object["event"])?))
    };
    text.lines().map(each).collect()
}

fn ocsf(text: &str) -> Result<Vec<Line>> {
    let each = |line: &str| -> Result<Line> {
        let event: Value = serde_json::from_str(line)?;
        // What the class and the base event require.
        for name in ["time", "severity_id", "actor", "src_endpoint", "metadata"] {
            ensure!(!event[name].is_null(), "no {name}: {line}");
        }
        let activity = event["activity_id"].as_u64().context("activity_id")?;
        ensure!(event["class_uid"] == 6005 && event["category_uid"] == 6, "{line}");
        ensure!(event["type_uid"] == 600_500 + activity, "{line}");
        let metadata = &event["metadata"];
        let index = metadata["sequence"].as_u64().context("sequence")?;
        ensure!(metadata["product"]["vendor_name"].is_string(), "{line}");
        Ok((index, text_of(&metadata["event_code"])?))
    };
    text.lines().map(each).collect()
}

/// Seven fields behind `CEF:`, then `key=value` pairs with `\`, `=` and line ends escaped in values.
fn cef(text: &str) -> Result<Vec<Line>> {
    let each = |line: &str| -> Result<Line> {
        let fields = fields(line.strip_prefix("CEF:").context("no CEF")?)?;
        let [version, _, _, _, event, _, severity, extension] = &fields[..] else {
            bail!("{} fields: {line}", fields.len());
        };
        ensure!(version == "0" && severity.parse::<u8>()? <= 10, "{line}");
        let pairs = pairs(extension)?;
        let id = pairs.iter().find(|(key, _)| key == "externalId").context("externalId")?;
        let (_, index) = id.1.rsplit_once(':').context("an index")?;
        Ok((index.parse()?, event.clone()))
    };
    text.split_terminator('\n').map(each).collect()
}

/// The header's fields without their escapes, and the extension as it is.
fn fields(text: &str) -> Result<Vec<String>> {
    let (mut fields, mut field, mut rest) = (Vec::new(), String::new(), text.chars());
    while fields.len() < 7 {
        match rest.next().context("the header ends early")? {
            '|' => fields.push(std::mem::take(&mut field)),
            '\\' => field.push(rest.next().context("half an escape")?),
            other => field.push(other),
        }
    }
    fields.push(rest.as_str().to_owned());
    Ok(fields)
}

fn pairs(text: &str) -> Result<Vec<(String, String)>> {
    // Keys have no blanks; the last word in front of a `=` without an escape is one.
    let (mut pairs, mut part) = (Vec::<(String, String)>::new(), String::new());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('n') => part.push('\n'),
                Some('r') => part.push('\r'),
                Some(escaped @ ('\\' | '=')) => part.push(escaped),
                other => bail!("no escape: {other:?}"),
            },
            '=' => {
                let (value, key) = part.rsplit_once(' ').unwrap_or(("", &part));
                let key = key.to_owned();
                ensure!(key.chars().all(char::is_alphanumeric) && !key.is_empty(), "key {key:?}");
                if let Some(last) = pairs.last_mut() {
                    value.clone_into(&mut last.1);
                }
                pairs.push((key, String::new()));
                part.clear();
            }
            other => part.push(other),
        }
    }
    pairs.last_mut().context("no pair")?.1 = part;
    Ok(pairs)
}

fn csv(text: &str) -> Result<Vec<Line>> {
    let rows = rows(text)?;
    let (header, rows) = rows.split_first().context("a header")?;
    let column = |name: &str| header.iter().position(|cell| cell == name).context("a column");
    let (index, event) = (column("index")?, column("event")?);
    let each = |row: &Vec<String>| -> Result<Line> {
        ensure!(row.len() == header.len(), "{} cells, expected {}", row.len(), header.len());
        Ok((row[index].parse()?, row[event].clone()))
    };
    rows.iter().map(each).collect()
}

/// RFC 4180.
fn rows(text: &str) -> Result<Vec<Vec<String>>> {
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '"' if cell.is_empty() => loop {
                match rest.next().context("an open quote")? {
                    '"' if rest.next_if_eq(&'"').is_some() => cell.push('"'),
                    '"' => {
                        ensure!(matches!(rest.peek(), Some(',' | '\r')), "text behind a quote");
                        break;
                    }
                    other => cell.push(other),
                }
            },
            ',' => row.push(std::mem::take(&mut cell)),
            '\r' => {
                ensure!(rest.next() == Some('\n'), "half a line end");
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            '"' | '\n' => bail!("not quoted: {character:?}"),
            other => cell.push(other),
        }
    }
    ensure!(row.is_empty() && cell.is_empty(), "the last line has no end");
    Ok(rows)
}
