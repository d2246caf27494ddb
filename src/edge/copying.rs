//! A copy of a service as a service of its own: found by its mark, brought to a wanted content, removed.
//!
//! Invariant: a copy is brought from whatever it is to what it should be, so a copy that a crash left half done is
//! finished by the same call that began it; only a service that carries our mark is ever deleted.

use super::content::{Content, Object, bare, changed};
use super::kinds::{HTTP3, KINDS, LOGGING, SETTINGS, VERSIONLESS_DOMAIN};
use super::{Fastly, escaped, number, text};
use crate::error::{Error, Result};
use crate::journal::Permit;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Operations of one batch on items or entries.
const BATCH: usize = 1000;
/// Parts of objects that stand beside the versions.
const BESIDE: [(&str, &str); 3] = [("dictionary", "items"), ("acl", "entries"), ("director", "backends")];

/// A copy, as the account lists it.
#[derive(Debug, Clone, PartialEq)]
pub struct Copied {
    pub id: String,
    pub name: String,
    /// The service that it is a copy of.
    pub source: String,
    /// The number of its active version.
    pub active: Option<u64>,
    /// The number of its latest version, where that can still be edited.
    pub draft: Option<u64>,
}

/// One write that brings a copy nearer to what it should be.
struct Edit {
    method: Method,
    /// Below the version, or beside it.
    path: String,
    body: Value,
}

fn mark(source: &str) -> String {
    format!("saltext-migrate: copy of {source}")
}

/// Counts the writes that make a content of another one; nothing stands for a service that is yet to be made.
pub fn writes(want: &Content, have: Option<&Content>) -> u64 {
    let (empty, made) = (Content::default(), u64::from(have.is_none()));
    let have = have.unwrap_or(&empty);
    let after = beside(want, have, true).len() + domains(want, have).len();
    // And the activation.
    made + (inside(want, have).len() + after) as u64 + 1
}

/// Lists the writes inside a version: what is named comes before what names it, and goes after it.
fn inside(want: &Content, have: &Content) -> Vec<Edit> {
    let (mut edits, mut gone) = (Vec::new(), Vec::new());
    let logging = LOGGING.iter().map(|name| (format!("logging/{name}"), false));
    for (kind, by_id) in KINDS.iter().map(|kind| (kind.path.to_owned(), kind.by_id)).chain(logging) {
        for (key, object) in want.objects.iter().filter(|((its, _), _)| *its == kind) {
            let had = have.objects.get(key);
            edits.extend(of_object(&kind, &key.1, by_id.then(|| have.ids.get(key)).flatten(), object, had));
        }
        for key in have.objects.keys().filter(|key| key.0 == kind && !want.objects.contains_key(*key)) {
            let path = address(&kind, &key.1, by_id.then(|| have.ids.get(key)).flatten());
            gone.push(Edit { method: Method::DELETE, path, body: Value::Null });
        }
    }
    let settings = (SETTINGS.to_owned(), "all".to_owned());
    if let Some(object) = want.objects.get(&settings) {
        let had = have.objects.get(&settings).cloned().unwrap_or_default();
        let body = patch(object, &had);
        if !body.is_empty() {
            edits.push(Edit { method: Method::PUT, path: SETTINGS.into(), body: Value::Object(body) });
        }
    }
    let http3 = (HTTP3.to_owned(), "on".to_owned());
    match (want.objects.contains_key(&http3), have.objects.contains_key(&http3)) {
        (true, false) => edits.push(Edit { method: Method::POST, path: HTTP3.into(), body: json!({}) }),
        (false, true) => edits.push(Edit { method: Method::DELETE, path: HTTP3.into(), body: Value::Null }),
        _ => {}
    }
    edits.extend(gone.into_iter().rev());
    edits
}

fn address(kind: &str, name: &str, id: Option<&String>) -> String {
    match id {
        // From the root, for it is not reached through its version.
        Some(id) => format!("/{kind}/{}", escaped(id)),
        None => format!("{kind}/{}", escaped(name)),
    }
}

fn of_object(kind: &str, name: &str, id: Option<&String>, want: &Object, have: Option<&Object>) -> Vec<Edit> {
    let bare = |object: &Object| {
        let mut object = object.clone();
        for (its, part) in BESIDE {
            if its == kind {
                object.remove(part);
            }
        }
        // Once it is there, the body of a dynamic one stands beside the versions.
        if kind == "snippet" && have.is_some() && is_dynamic(&object) {
            object.remove("content");
        }
        object
    };
    let path = address(kind, name, id);
    let mut edits = Vec::new();
    match have.map(&bare) {
        None => edits.push(Edit { method: Method::POST, path: kind.into(), body: Value::Object(bare(want)) }),
        Some(had) => {
            let mut body = patch(&bare(want), &had);
            if kind == "vcl" && body.remove("main").is_some() && want.get("main") == Some(&json!(true)) {
                edits.push(Edit { method: Method::PUT, path: format!("{path}/main"), body: Value::Null });
            }
            let fixed = |field: &str| body.contains_key(field) && (kind == "snippet" || kind == "dictionary");
            if fixed("dynamic") || fixed("type") || fixed("write_only") {
                edits.push(Edit { method: Method::DELETE, path, body: Value::Null });
                edits.push(Edit { method: Method::POST, path: kind.into(), body: Value::Object(bare(want)) });
            } else if !body.is_empty() {
                edits.push(Edit { method: Method::PUT, path, body: Value::Object(body) });
            }
        }
    }
    if kind == "director" {
        let members = |object: Option<&Object>| -> Vec<String> {
            let list = object.and_then(|object| object.get("backends")).and_then(Value::as_array);
            list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let (wanted, had) = (members(Some(want)), members(have));
        let relation = |method: Method, backend: &String| Edit {
            method,
            path: format!("director/{}/backend/{}", escaped(name), escaped(backend)),
            body: Value::Null,
        };
        edits.extend(wanted.iter().filter(|b| !had.contains(b)).map(|backend| relation(Method::POST, backend)));
        edits.extend(had.iter().filter(|b| !wanted.contains(b)).map(|backend| relation(Method::DELETE, backend)));
    }
    edits
}

/// Lists the fields to send; what is to be unset is sent as an empty text.
fn patch(want: &Object, have: &Object) -> Object {
    changed(want, have).map(|field| (field.to_owned(), want.get(field).cloned().unwrap_or_else(|| json!("")))).collect()
}

fn is_dynamic(object: &Object) -> bool {
    object.get("dynamic").is_some_and(|value| *value == json!("1") || *value == json!(1))
}

/// Lists the writes beside the versions; `ahead` counts those on what is yet to be made, too.
fn beside(want: &Content, have: &Content, ahead: bool) -> Vec<Edit> {
    let mut edits = Vec::new();
    for (key, object) in &want.objects {
        let had = have.objects.get(key);
        let id = match have.ids.get(key) {
            Some(id) => escaped(id),
            None if ahead && had.is_none() => String::new(),
            None => continue,
        };
        let part = |field: &str| (object.get(field), had.and_then(|had| had.get(field)));
        match key.0.as_str() {
            "dictionary" => {
                let (Some(Value::Object(wanted)), had) = part("items") else { continue };
                let none = Object::new();
                let had = had.and_then(Value::as_object).unwrap_or(&none);
                let upsert = |field: &str| json!({"op": "upsert", "item_key": field, "item_value": wanted[field]});
                let operations = changed(wanted, had).map(|field| {
                    if wanted.contains_key(field) { upsert(field) } else { json!({"op": "delete", "item_key": field}) }
                });
                batches(&mut edits, &format!("dictionary/{id}/items"), "items", operations.collect());
            }
            "acl" => {
                let (Some(Value::Array(wanted)), had) = part("entries") else { continue };
                let had = had.and_then(Value::as_array).cloned().unwrap_or_default();
                let create = |entry: &Value| {
                    let mut operation = entry.clone();
                    operation["op"] = json!("create");
                    operation
                };
                let missing = wanted.iter().filter(|entry| !had.contains(entry)).map(create).collect();
                batches(&mut edits, &format!("acl/{id}/entries"), "entries", missing);
            }
            "snippet" if is_dynamic(object) && had.is_some() => {
                let (wanted, had) = part("content");
                if wanted != had {
                    let body = json!({"content": wanted.cloned().unwrap_or_else(|| json!(""))});
                    edits.push(Edit { method: Method::PUT, path: format!("snippet/{id}"), body });
                }
            }
            _ => {}
        }
    }
    edits
}

fn batches(edits: &mut Vec<Edit>, path: &str, key: &str, operations: Vec<Value>) {
    for batch in operations.chunks(BATCH) {
        edits.push(Edit { method: Method::PATCH, path: path.to_owned(), body: json!({key: batch}) });
    }
}

/// Lists the writes on domains that no version holds.
fn domains(want: &Content, have: &Content) -> Vec<Edit> {
    let all = |content: &Content| content.names(VERSIONLESS_DOMAIN);
    let (wanted, had) = (all(want), all(have));
    let base = "/domain-management/v1/domains";
    let mut edits = Vec::new();
    for name in had.iter().filter(|name| !wanted.contains(name)) {
        let id = have.ids.get(&(VERSIONLESS_DOMAIN.to_owned(), name.clone())).map(|id| escaped(id)).unwrap_or_default();
        edits.push(Edit { method: Method::DELETE, path: format!("{base}/{id}"), body: Value::Null });
    }
    for name in wanted.iter().filter(|name| !had.contains(name)) {
        edits.push(Edit { method: Method::POST, path: base.into(), body: json!({"fqdn": name}) });
    }
    edits
}

impl Fastly {
    /// Finds the copies of a service, or of every one, by their mark.
    pub async fn copies(&self, source: Option<&str>) -> Result<Vec<Copied>> {
        let all = self.wire.list("/service").await?;
        let marked = all.iter().filter_map(|service| {
            let comment = service.get("comment")?.as_str()?;
            let of = comment.strip_prefix(&mark(""))?.split_whitespace().next()?;
            source.is_none_or(|source| source == of).then(|| listed(service, of))
        });
        marked.collect()
    }

    /// Lists every service of the account: name by id.
    pub async fn services(&self) -> Result<BTreeMap<String, String>> {
        let all = self.wire.list("/service").await?;
        all.iter().map(|service| Ok((text(service, "id")?.to_owned(), text(service, "name")?.to_owned()))).collect()
    }

    /// Tells whose a service name is already.
    pub async fn named(&self, name: &str) -> Result<Option<String>> {
        let all = self.wire.list("/service").await?;
        let same = all.iter().find(|service| service.get("name").and_then(Value::as_str) == Some(name));
        same.map(|service| text(service, "id").map(str::to_owned)).transpose()
    }

    /// Tells what kind of service it is: only those of kind `vcl` can be copied.
    pub async fn type_of(&self, service: &str) -> Result<String> {
        let told = self.wire.get(&format!("/service/{service}")).await?;
        text(&told, "type").map(str::to_owned)
    }

    /// Makes the empty service that will be a copy; name and mark are there from the first moment.
    pub async fn make_copy(&self, permit: &Permit, source: &str, name: &str) -> Result<Copied> {
        let body = json!({"name": name, "type": "vcl", "comment": mark(source)});
        let made = self.write(permit, "", Method::POST, "/service", &body).await?;
        Ok(Copied {
            id: text(&made, "id")?.to_owned(),
            name: name.to_owned(),
            source: source.to_owned(),
            active: None,
            draft: Some(1),
        })
    }

    /// Brings an editable version of a copy to a content: what is missing is made, what differs is changed, what is too
    /// much is deleted.
    pub async fn fill(&self, permit: &Permit, service: &str, version: u64, want: &Content) -> Result<()> {
        let have = self.content(service, version).await?;
        let base = format!("/service/{service}/version/{version}");
        for edit in inside(want, &have) {
            let path = if edit.path.starts_with('/') { edit.path } else { format!("{base}/{}", edit.path) };
            self.write(permit, service, edit.method, &path, &edit.body).await?;
        }
        // Only now are the ids known by which the rest is reached.
        let have = self.content(service, version).await?;
        for edit in beside(want, &have, false) {
            let path = format!("/service/{service}/{}", edit.path);
            self.write(permit, service, edit.method, &path, &edit.body).await?;
        }
        self.drop_entries(permit, service, want, &have).await?;
        for mut edit in domains(want, &have) {
            if edit.method == Method::POST {
                edit.body["service_id"] = json!(service);
            }
            self.write(permit, service, edit.method, &edit.path, &edit.body).await?;
        }
        Ok(())
    }

    /// Deletes the entries of lists of addresses that are too much: they are known by their ids alone.
    async fn drop_entries(&self, permit: &Permit, service: &str, want: &Content, have: &Content) -> Result<()> {
        for (key, object) in want.objects.iter().filter(|((kind, _), _)| kind == "acl") {
            let wanted = object.get("entries").and_then(Value::as_array).cloned().unwrap_or_default();
            let Some(id) = have.ids.get(key) else { continue };
            let path = format!("/service/{service}/acl/{}/entries", escaped(id));
            let mut spare = Vec::new();
            let mut kept: Vec<Value> = Vec::new();
            for told in self.wire.list(&path).await? {
                let bare = Value::Object(bare(&told, &[]));
                // Of two that are the same one is enough.
                if wanted.contains(&bare) && !kept.contains(&bare) {
                    kept.push(bare);
                } else {
                    spare.push(json!({"op": "delete", "id": text(&told, "id")?}));
                }
            }
            for batch in spare.chunks(BATCH) {
                self.write(permit, service, Method::PATCH, &path, &json!({"entries": batch})).await?;
            }
        }
        Ok(())
    }

    /// Deletes a copy, after a look at its mark.
    ///
    /// # Errors
    /// [`Error::Drift`] where it does not carry our mark any more.
    pub async fn remove_copy(&self, permit: &Permit, copy: &Copied) -> Result<()> {
        let path = format!("/service/{}", copy.id);
        let now = self.wire.get(&path).await?;
        let comment = now.get("comment").and_then(Value::as_str).unwrap_or_default();
        if !comment.starts_with(&mark(&copy.source)) {
            return Err(Error::Drift {
                step: format!("edge service {}", copy.name),
                old: format!("the comment {}", mark(&copy.source)),
                new: "deleted".into(),
                found: format!("the comment {comment}"),
            });
        }
        for version in self.versions(&copy.id).await?.into_iter().filter(|version| version.active) {
            self.deactivate(permit, &copy.id, version.number).await?;
        }
        let mut beside = Content::default();
        self.add_domains(&mut beside, &copy.id).await?;
        for edit in domains(&Content::default(), &beside) {
            self.write(permit, &copy.id, edit.method, &edit.path, &Value::Null).await?;
        }
        self.write(permit, &copy.id, Method::DELETE, &path, &Value::Null).await.map(|_| ())
    }
}

fn listed(service: &Value, source: &str) -> Result<Copied> {
    let versions = service.get("versions").and_then(Value::as_array).cloned().unwrap_or_default();
    let is = |version: &&Value, flag: &str| version.get(flag).and_then(Value::as_bool).unwrap_or(false);
    let active = versions.iter().find(|version| is(version, "active"));
    let latest = versions.iter().max_by_key(|version| number(version, "number").unwrap_or_default());
    let draft = latest.filter(|version| !is(version, "locked") && !is(version, "active"));
    Ok(Copied {
        id: text(service, "id")?.to_owned(),
        name: text(service, "name")?.to_owned(),
        source: source.to_owned(),
        active: active.map(|version| number(version, "number")).transpose()?,
        draft: draft.map(|version| number(version, "number")).transpose()?,
    })
}
