//! What types alone cannot say: settings that contradict each other.
//!
//! Invariant: every refusal names the pillar path, what was found, what was expected, and what to do.

use super::{Purge, Settings, Side};
use crate::error::{Error, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Names the kind of a value in YAML's words.
pub(super) fn word(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

/// Turns a deserializer's message into path, found and expected.
pub(super) fn explain(error: serde_path_to_error::Error<serde_json::Error>) -> Error {
    let inner = error.path().to_string().replace('.', ":");
    let message = error.into_inner().to_string();
    let path = if inner == ":" || inner.is_empty() { "migrate".to_owned() } else { format!("migrate:{inner}") };
    // A value that does not fit may be a misplaced secret, so only keys are quoted, never values.
    let (found, expected) = if let Some(rest) = message.strip_prefix("missing field ") {
        ("nothing".to_owned(), format!("the key {}", rest.trim()))
    } else if let Some((found, expected)) = message.split_once(", expected ") {
        (if found.starts_with("unknown field") { found.to_owned() } else { kind_only(found) }, expected.to_owned())
    } else {
        (kind_only(&message), "a value of another form".to_owned())
    };
    Error::Settings {
        path,
        found,
        expected,
        hint: "pillar-example/migrate.sls shows every key with its meaning".into(),
    }
}

fn kind_only(found: &str) -> String {
    ["string", "integer", "boolean", "map", "sequence", "floating point", "null"]
        .iter()
        .find(|kind| found.contains(*kind))
        .map_or_else(|| "a value that does not fit".to_owned(), |kind| format!("a value of kind {kind}"))
}

/// Refuses settings that contradict each other.
pub(super) fn consistent(settings: &Settings) -> Result<()> {
    addresses_are_unique(settings)?;
    if let Some(clouds) = &settings.clouds {
        clouds.consistent()?;
    }
    if let Some(prepare) = &settings.prepare {
        prepare.consistent(settings)?;
    }
    let databases = &settings.databases;
    let mut named: Vec<(String, Side, &str)> =
        vec![("databases:old:primary".into(), Side::Old, databases.old.primary.as_str())];
    named.extend(numbered("databases:old:replicas", Side::Old, &databases.old.replicas));
    named.push(("databases:new:primary".into(), Side::New, &databases.new.primary));
    named.extend(numbered("databases:new:replicas", Side::New, &databases.new.replicas));
    if let Some(relay) = &databases.new.relay {
        named.push(("databases:new:relay".into(), Side::New, relay));
    }
    let mut servers: BTreeMap<(Side, &str), &str> = BTreeMap::new();
    for (path, side, node) in &named {
        node_exists(settings, path, *side, node)?;
        if let Some(first) = servers.insert((*side, node), path) {
            return Err(wrong(
                path,
                node,
                "a node that has no other part in the chain",
                &format!("it is already migrate:{first}"),
            ));
        }
    }
    for side in [Side::Old, Side::New] {
        for (path, side, node) in
            numbered(&format!("notice:nodes:{}", side.word()), side, settings.notice.nodes.of(side))
        {
            node_exists(settings, &path, side, node)?;
            if settings.node(side, node).is_some_and(|found| found.minion.is_none()) {
                let hint = format!("set migrate:nodes:{}:{node}:minion", side.word());
                return Err(wrong(&path, node, "a node with a minion, to put the notice on", &hint));
            }
        }
    }
    if settings.notice.text.trim().is_empty() {
        return Err(wrong(
            "notice:text",
            "an empty text",
            "what editors shall read while they cannot save",
            "for example 'Migration in progress'",
        ));
    }
    for (path, account) in [
        ("admin", &databases.accounts.admin),
        ("marker", &databases.accounts.marker),
        ("replication", &databases.accounts.replication),
    ] {
        if account.user.is_empty() || account.user.len() > 80 {
            return Err(wrong(
                &format!("databases:accounts:{path}:user"),
                "an empty or overlong name",
                "an account name",
                "name the account",
            ));
        }
    }
    if databases.accounts.marker.user == databases.accounts.admin.user {
        return Err(wrong(
            "databases:accounts:marker:user",
            &databases.accounts.marker.user,
            "another account than databases:accounts:admin",
            "the marker must be stopped by a fence, so its account may have no rights but on saltext_migrate.marker",
        ));
    }
    if let Some(edge) = &settings.edge {
        let mut ids: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, service) in &edge.services {
            if let Some(first) = ids.insert(&service.id, name) {
                let path = format!("edge:services:{name}:id");
                return Err(wrong(
                    &path,
                    &service.id,
                    "an id that no other service has",
                    &format!("edge:services:{first} has it"),
                ));
            }
            if service.id.is_empty() || !service.id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return Err(wrong(
                    &format!("edge:services:{name}:id"),
                    &service.id,
                    "letters and digits",
                    "copy it from the CDN's control panel",
                ));
            }
            if let Purge::Keys(keys) = &service.purge
                && keys.is_empty()
            {
                return Err(wrong(
                    &format!("edge:services:{name}:purge:keys"),
                    "an empty list",
                    "surrogate keys",
                    "leave purge out to purge nothing",
                ));
            }
        }
    }
    Ok(())
}

fn numbered<'a>(path: &str, side: Side, nodes: &'a [String]) -> Vec<(String, Side, &'a str)> {
    nodes.iter().enumerate().map(|(index, node)| (format!("{path}:{index}"), side, node.as_str())).collect()
}

fn node_exists(settings: &Settings, path: &str, side: Side, node: &str) -> Result<()> {
    if settings.node(side, node).is_some() {
        return Ok(());
    }
    let known: Vec<&str> = settings.nodes.of(side).keys().map(String::as_str).collect();
    let expected = format!("one of migrate:nodes:{}: {}", side.word(), known.join(", "));
    Err(wrong(path, node, &expected, "add the node, or correct its name"))
}

fn addresses_are_unique(settings: &Settings) -> Result<()> {
    let mut seen: BTreeMap<IpAddr, String> = BTreeMap::new();
    for side in [Side::Old, Side::New] {
        for (name, node) in settings.nodes.of(side) {
            for (kind, address) in [("private", Some(node.private)), ("public", node.public)] {
                let Some(address) = address else { continue };
                let path = format!("nodes:{}:{name}:{kind}", side.word());
                if address.is_unspecified() || address.is_multicast() {
                    return Err(wrong(&path, &address.to_string(), "the address of one host", "correct the address"));
                }
                if let Some(first) = seen.insert(address, path.clone())
                    && first.rsplit_once(':').map(|(node, _)| node) != path.rsplit_once(':').map(|(node, _)| node)
                {
                    let hint = format!("migrate:{first} has it; two nodes cannot share an address");
                    return Err(wrong(&path, &address.to_string(), "an address that no other node has", &hint));
                }
            }
        }
    }
    Ok(())
}

pub(super) fn wrong(path: &str, found: &str, expected: &str, hint: &str) -> Error {
    Error::Settings {
        path: format!("migrate:{path}"),
        found: found.into(),
        expected: expected.into(),
        hint: hint.into(),
    }
}
