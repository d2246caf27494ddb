//! Everything a version of a service holds, comparable: what it is, without where and when.
//!
//! Invariant: reading and comparing lose nothing but what the API works out by itself; messages name fields and never
//! quote their values, for some are keys and certificates.

use super::kinds::{HTTP3, KINDS, Kind, LOGGING, PLACE, PRODUCTS, SETTINGS, UNCOPIED, VERSIONLESS_DOMAIN};
use super::{Fastly, escaped, text};
use crate::error::{Error, Result};
use futures_util::future::try_join_all;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// One object: its fields by name.
pub(super) type Object = Map<String, Value>;

/// The objects of a version, by kind and name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Content {
    pub(super) objects: BTreeMap<(String, String), Object>,
    /// By which some kinds are reached; no part of what they are.
    pub(super) ids: BTreeMap<(String, String), String>,
    /// What is there, and cannot be read or copied.
    pub unreadable: Vec<String>,
}

/// One field in which two versions differ.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    pub kind: String,
    pub name: String,
    /// Nothing where the object as a whole is on one side only.
    pub field: Option<String>,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {}", self.kind, self.name)?;
        match &self.field {
            Some(field) => write!(formatter, ": {field}"),
            None => write!(formatter, " as a whole"),
        }
    }
}

impl Content {
    /// Takes in an object as the API tells it.
    pub(super) fn insert(&mut self, kind: &str, derived: &[&str], told: &Value) -> Result<()> {
        let name = if kind == VERSIONLESS_DOMAIN { text(told, "fqdn")? } else { text(told, "name")? }.to_owned();
        let key = (kind.to_owned(), name);
        if let Some(id) = told.get("id").and_then(Value::as_str) {
            self.ids.insert(key.clone(), id.to_owned());
        }
        self.objects.insert(key, bare(told, derived));
        Ok(())
    }

    fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = (&'a str, &'a Object)> {
        self.objects.iter().filter(move |((its, _), _)| its == kind).map(|((_, name), object)| (name.as_str(), object))
    }

    /// Lists the names of one kind.
    pub fn names(&self, kind: &str) -> Vec<String> {
        self.of(kind).map(|(name, _)| name.to_owned()).collect()
    }

    /// Lists where the backends point, by name.
    pub fn backends(&self) -> BTreeMap<String, String> {
        let address = |object: &Object| object.get("address").and_then(Value::as_str).unwrap_or_default().to_owned();
        self.of("backend").map(|(name, object)| (name.to_owned(), address(object))).collect()
    }

    /// Points the backends elsewhere.
    pub fn point(&mut self, addresses: &BTreeMap<String, String>) {
        for (name, address) in addresses {
            if let Some(object) = self.objects.get_mut(&("backend".to_owned(), name.clone())) {
                object.insert("address".into(), json!(address));
            }
        }
    }

    /// Lists every domain, of either model.
    pub fn domains(&self) -> Vec<String> {
        let mut all = self.names("domain");
        all.extend(self.names(VERSIONLESS_DOMAIN));
        all
    }

    /// Tells whether the domains are of the model in which no version holds them.
    pub fn versionless_domains(&self) -> bool {
        self.of("domain").next().is_none() && self.of(VERSIONLESS_DOMAIN).next().is_some()
    }

    /// Replaces the domains.
    pub fn serve(&mut self, domains: &[String], versionless: bool) {
        self.objects.retain(|(kind, _), _| kind != "domain" && kind != VERSIONLESS_DOMAIN);
        let (kind, field) = if versionless { (VERSIONLESS_DOMAIN, "fqdn") } else { ("domain", "name") };
        for domain in domains {
            let object = Object::from_iter([(field.to_owned(), json!(domain))]);
            self.objects.insert((kind.to_owned(), domain.clone()), object);
        }
    }

    /// Keeps only those log endpoints that are named, with the fields that are given; returns what was left out.
    pub fn log_to(&mut self, kept: &BTreeMap<String, BTreeMap<String, Value>>) -> Vec<String> {
        let mut out = Vec::new();
        self.objects.retain(|(kind, name), object| {
            if !kind.starts_with("logging/") {
                return true;
            }
            let Some(fields) = kept.get(name) else {
                out.push(format!("{kind} {name}"));
                return false;
            };
            object.extend(fields.iter().map(|(field, value)| (field.clone(), value.clone())));
            true
        });
        out
    }

    /// Counts the objects.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Tells whether there is none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Lists every field in which another content differs from this one.
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        let mut found = Vec::new();
        let keys: std::collections::BTreeSet<_> = self.objects.keys().chain(other.objects.keys()).collect();
        for key in keys {
            let mut note = |field: Option<&str>| {
                found.push(Difference { kind: key.0.clone(), name: key.1.clone(), field: field.map(str::to_owned) });
            };
            match (self.objects.get(key), other.objects.get(key)) {
                (Some(ours), Some(theirs)) => changed(ours, theirs).for_each(|field| note(Some(field))),
                _ => note(None),
            }
        }
        found
    }
}

/// Lists the fields in which two objects differ.
pub(super) fn changed<'a>(ours: &'a Object, theirs: &'a Object) -> impl Iterator<Item = &'a str> {
    let only_theirs = theirs.keys().filter(|field| !ours.contains_key(*field));
    ours.keys().chain(only_theirs).filter(|field| ours.get(*field) != theirs.get(*field)).map(String::as_str)
}

/// Leaves out where and when an object is, and what is not set: the API writes that as null or as an empty text.
pub(super) fn bare(told: &Value, derived: &[&str]) -> Object {
    let unset = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    let fields = told.as_object().into_iter().flatten();
    fields
        .filter(|(field, value)| {
            !unset(value) && !PLACE.contains(&field.as_str()) && !derived.contains(&field.as_str())
        })
        .map(|(field, value)| (field.clone(), value.clone()))
        .collect()
}

/// Takes in what details tell of a version.
pub(super) fn outline(told: &Value) -> Result<Content> {
    let mut content = Content::default();
    for kind in &KINDS {
        let Some(list) = kind.details.and_then(|key| told.get(key)).and_then(Value::as_array) else { continue };
        for object in list {
            content.insert(kind.path, kind.derived, object)?;
            if kind.path == "director"
                && let Some(director) = content.objects.get_mut(&(kind.path.into(), text(object, "name")?.into()))
                && let Some(Value::Array(backends)) = director.get_mut("backends")
            {
                backends.sort_by_key(ToString::to_string);
            }
        }
    }
    let mut settings = bare(told.get("settings").unwrap_or(&Value::Null), &[]);
    // An old field that can be read, and not be set to nothing.
    settings.retain(|field, value| field != "general.default_pci" || *value != json!(0));
    content.objects.insert((SETTINGS.into(), "all".into()), settings);
    Ok(content)
}

impl Fastly {
    /// Reads what `details` tell of a version: every kind but log endpoints, rate limiters and what is beside versions.
    pub async fn outline(&self, service: &str, version: u64) -> Result<Content> {
        let details = self.wire.get(&format!("/service/{service}/details?version={version}")).await?;
        let told = details.get("version").filter(|version| version.is_object());
        outline(told.ok_or_else(|| Error::remote("edge", "the details name no version"))?)
    }

    /// Reads everything a version holds, and what its service holds beside it.
    pub async fn content(&self, service: &str, version: u64) -> Result<Content> {
        let mut content = self.outline(service, version).await?;
        let inside = format!("/service/{service}/version/{version}");
        for kind in KINDS.iter().filter(|kind| kind.details.is_none()) {
            self.add_list(&mut content, kind, &format!("{inside}/{}", kind.path)).await?;
        }
        if self.wire.find(&format!("{inside}/{HTTP3}")).await?.is_some() {
            content.objects.insert((HTTP3.into(), "on".into()), Object::new());
        }
        self.add_logging(&mut content, &inside).await?;
        self.add_items(&mut content, service).await?;
        self.add_domains(&mut content, service).await?;
        Ok(content)
    }

    /// Names what a service has that no copy can have.
    pub async fn uncopied(&self, service: &str, version: u64) -> Result<Vec<String>> {
        let inside = format!("/service/{service}/version/{version}");
        let lists = UNCOPIED.iter().map(async |(path, what)| -> Result<Vec<String>> {
            let found = self.wire.find(&format!("{inside}/{path}")).await?.unwrap_or_default();
            let found = if found.is_array() { found } else { json!([found]) };
            let named = found.as_array().into_iter().flatten();
            Ok(named
                .filter(|object| object.is_object())
                .map(|object| {
                    let name = object.get("name").and_then(Value::as_str).unwrap_or_default();
                    format!("{what} ({path} {name})").replace(" )", ")")
                })
                .collect())
        });
        let products = PRODUCTS.iter().map(async |product| -> Result<Vec<String>> {
            let path = format!("/enabled-products/v1/{product}/services/{service}");
            let on = self.wire.find(&path).await?.is_some();
            Ok(if on { vec![format!("the product {product}")] } else { Vec::new() })
        });
        let (lists, products) = (try_join_all(lists).await?, try_join_all(products).await?);
        Ok(lists.into_iter().chain(products).flatten().collect())
    }

    async fn add_list(&self, content: &mut Content, kind: &Kind, path: &str) -> Result<()> {
        for object in self.wire.find(path).await?.unwrap_or_default().as_array().into_iter().flatten() {
            content.insert(kind.path, kind.derived, object)?;
        }
        Ok(())
    }

    async fn add_logging(&self, content: &mut Content, inside: &str) -> Result<()> {
        let lists = LOGGING.iter().map(async |name| -> Result<_> {
            Ok((format!("logging/{name}"), self.wire.find(&format!("{inside}/logging/{name}")).await?))
        });
        for (kind, list) in try_join_all(lists).await? {
            for object in list.unwrap_or_default().as_array().into_iter().flatten() {
                // Both are told, and only one may be set.
                let idle = object
                    .get("gzip_level")
                    .is_some_and(|level| matches!(level.as_i64(), Some(0)) || *level == json!("0"));
                content.insert(&kind, if idle { &["gzip_level"] } else { &[] }, object)?;
            }
        }
        Ok(())
    }

    /// Adds items, entries and bodies: they are beside the versions, and part of what the objects are.
    async fn add_items(&self, content: &mut Content, service: &str) -> Result<()> {
        let beside: Vec<_> = content.ids.iter().map(|(key, id)| (key.clone(), id.clone())).collect();
        let read = beside.iter().map(async |((kind, name), id)| -> Result<Option<(&str, Value)>> {
            let object = content.objects.get(&(kind.clone(), name.clone()));
            let is = |field: &str| {
                let value = object.and_then(|object| object.get(field));
                value.is_some_and(|value| *value == json!(true) || *value == json!("1") || *value == json!(1))
            };
            let base = format!("/service/{service}/{kind}/{}", escaped(id));
            Ok(match kind.as_str() {
                "dictionary" if is("write_only") => None,
                "dictionary" => {
                    let mut items = Object::new();
                    for item in self.wire.list(&format!("{base}/items")).await? {
                        items.insert(text(&item, "item_key")?.into(), json!(text(&item, "item_value")?));
                    }
                    Some(("items", Value::Object(items)))
                }
                "acl" => {
                    let list = self.wire.list(&format!("{base}/entries")).await?;
                    let mut entries: Vec<Value> = list.iter().map(|entry| Value::Object(bare(entry, &[]))).collect();
                    entries.sort_by_key(ToString::to_string);
                    Some(("entries", Value::Array(entries)))
                }
                "snippet" if is("dynamic") => {
                    let body = self.wire.get(&base).await?;
                    Some(("content", body.get("content").cloned().unwrap_or_default()))
                }
                _ => None,
            })
        });
        for (((kind, name), _), part) in beside.iter().zip(try_join_all(read).await?) {
            let Some(object) = content.objects.get_mut(&(kind.clone(), name.clone())) else { continue };
            match part {
                Some((field, value)) => {
                    object.insert(field.into(), value);
                }
                None if kind == "dictionary" => {
                    content.unreadable.push(format!("the items of the write-only dictionary {name}"));
                }
                None => {}
            }
        }
        Ok(())
    }

    pub(super) async fn add_domains(&self, content: &mut Content, service: &str) -> Result<()> {
        let mut cursor = String::new();
        loop {
            let path = format!("/domain-management/v1/domains?service_id={service}&limit=100{cursor}");
            let Some(answer) = self.wire.find(&path).await? else { return Ok(()) };
            for domain in answer.get("data").and_then(Value::as_array).into_iter().flatten() {
                content.insert(VERSIONLESS_DOMAIN, &["activated", "verified"], domain)?;
            }
            match answer.pointer("/meta/next_cursor").and_then(Value::as_str).filter(|next| !next.is_empty()) {
                Some(next) => cursor = format!("&cursor={}", escaped(next)),
                None => return Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(objects: &[(&str, Value)]) -> Content {
        let mut content = Content::default();
        for (kind, object) in objects {
            assert_eq!(content.insert(kind, &["ipv4"], object), Ok(()));
        }
        content
    }

    #[test]
    fn where_and_when_an_object_is_makes_no_difference() {
        let ours = json!({"name": "app1", "address": "10.0.0.1", "ipv4": "10.0.0.1", "version": 3, "comment": ""});
        let theirs = json!({"name": "app1", "address": "10.0.0.1", "version": 1, "created_at": "now", "shield": null});
        assert_eq!(content(&[("backend", ours)]).differences(&content(&[("backend", theirs)])), []);
    }

    #[test]
    fn every_difference_is_named_and_no_value_quoted() {
        let ours = json!({"name": "app1", "address": "10.0.0.1", "ssl_client_key": "one", "weight": 70});
        let theirs = json!({"name": "app1", "address": "10.0.0.1", "ssl_client_key": "two", "share_key": "x"});
        let found = content(&[("backend", ours)])
            .differences(&content(&[("backend", theirs), ("gzip", json!({"name": "text"}))]));
        let words: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            words,
            ["backend app1: ssl_client_key", "backend app1: weight", "backend app1: share_key", "gzip text as a whole"]
        );
    }
}
