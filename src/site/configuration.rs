//! What hosts are configured with, as texts to search: rendered pillar and states, and lines of live files.
//!
//! Invariant: it reads only; a host that does not answer is an error, never an empty text.

use crate::error::{Error, Result};
use crate::outside::{Call, Outside};
use serde_json::{Value, json};

/// A text and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Text {
    pub place: String,
    pub text: String,
    /// The line of the place with which the text begins.
    pub line: u64,
}

/// The migration's own files on hosts, as arguments of `grep`: the tripwire's rules and the masters of two clouds name the
/// old side on purpose.
const OURS: [&str; 2] = ["--exclude-dir=saltext-migrate", "--exclude=*saltext-migrate*"];

/// Reads the rendered pillar and states of each host, one text for each leaf.
///
/// # Errors
/// [`Error::Remote`] where a host does not answer, or its states do not render.
pub async fn rendered(outside: &Outside, hosts: &[String], seconds: u64) -> Result<Vec<Text>> {
    if hosts.is_empty() {
        return Ok(Vec::new());
    }
    let mut texts = Vec::new();
    for (host, pillar) in outside.pillar(hosts).await? {
        leaves(&format!("pillar://{host}"), "", &pillar, &mut texts);
    }
    let calls = vec![Call::new("state.show_highstate", json!({}))];
    for (host, said) in outside.call(hosts, calls, seconds).await? {
        match said.into_iter().next() {
            Some(Ok(value @ Value::Object(_))) => leaves(&format!("states://{host}"), "", &value, &mut texts),
            Some(Ok(Value::Null)) | None => {}
            // Words instead of data say why they do not render.
            Some(Ok(other)) => return Err(Error::remote(&host, format!("its states do not render: {other}"))),
            Some(Err(problem)) => return Err(Error::remote(&host, format!("its states do not render: {problem}"))),
        }
    }
    Ok(texts)
}

fn leaves(place: &str, key: &str, value: &Value, texts: &mut Vec<Text>) {
    match value {
        Value::Object(map) => {
            for (name, inner) in map {
                let sep = if key.is_empty() { "/" } else { ":" };
                // A key may itself be an address.
                let text = if inner.is_object() || inner.is_array() { format!("{name}:") } else { String::new() };
                if !text.is_empty() {
                    texts.push(Text { place: place.to_owned(), text, line: 1 });
                }
                leaves(&format!("{place}{sep}{name}"), name, inner, texts);
            }
        }
        Value::Array(list) => list.iter().for_each(|inner| leaves(place, key, inner, texts)),
        Value::String(text) => texts.push(Text { place: place.to_owned(), text: format!("{key}: {text}"), line: 1 }),
        _ => {}
    }
}

/// Finds, in files of live hosts, the lines that hold any of some literals. Binary files are left out, and our own.
///
/// # Errors
/// [`Error::Remote`] where a host does not answer, or cannot search.
pub async fn live(
    outside: &Outside,
    hosts: &[String],
    trees: &[String],
    literals: &[String],
    seconds: u64,
) -> Result<Vec<Text>> {
    if hosts.is_empty() || trees.is_empty() {
        return Ok(Vec::new());
    }
    let mut command = vec!["grep".to_owned(), "-rInZF".into(), "--exclude-dir=.git".into()];
    command.extend(OURS.map(str::to_owned));
    command.extend(literals.iter().flat_map(|literal| ["-e".to_owned(), literal.clone()]));
    command.push("--".into());
    command.extend(trees.iter().cloned());
    // Nothing found is 1, and a file that vanished or is nobody's to read is 2: the words tell.
    let keywords = json!({"cmd": command, "python_shell": false, "ignore_retcode": true, "env": {"LC_ALL": "C"}});
    let mut texts = Vec::new();
    for (host, said) in outside.call(hosts, vec![Call::new("cmd.run_all", keywords)], seconds).await? {
        let answer = match said.into_iter().next() {
            Some(Ok(answer)) => answer,
            other => return Err(Error::remote(&host, format!("searching its files: {other:?}"))),
        };
        let field = |key: &str| answer.get(key).and_then(Value::as_str).unwrap_or_default();
        let refused = answer.get("retcode").and_then(Value::as_i64).is_none_or(|code| code > 2);
        if refused {
            return Err(Error::remote(&host, format!("searching its files: {}", field("stderr"))));
        }
        for row in field("stdout").lines() {
            let Some((path, rest)) = row.split_once('\0') else { continue };
            let Some((line, text)) = rest.split_once(':') else { continue };
            let line = line.parse().unwrap_or(1);
            texts.push(Text { place: format!("{host}:{path}"), text: text.to_owned(), line });
        }
    }
    Ok(texts)
}
