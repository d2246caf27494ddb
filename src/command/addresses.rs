//! The commands about old addresses: search, remap, restore, hosts, tripwire.
//!
//! | command | arguments | returns |
//! |---|---|---|
//! | `addresses.scan` | `roots`, `scope`, `rendered`, `live`, `databases`, `commands` | hits, counts, a table by file |
//! | `addresses.remap` | `roots`, `scope`, `commands`, `test`, `proposal` | diffs, what is left to people, the run |
//! | `addresses.restore` | `manifest`, `test` | files brought back, files that somebody changed since |
//! | `addresses.tripwire` | | the rules of each minion |
//! | `addresses.crossings` | `deserted` | what crossed, by minion, and what it means |
//! | `site.hosts` | | lines of a hosts file, by service |
//! | `site.check` | | what each vhost shows through them |

use crate::addresses::{Diff, Draft, Found, Manifest, Search, Tree, Verdict, proposal, table};
use crate::database::{Servers, literals};
use crate::engine;
use crate::error::{Error, Result};
use crate::outside::Outside;
use crate::phases::{deserted, remap};
use crate::settings::{Inventory, Settings, Side};
use crate::site::{self, Text};
use crate::steps::checks::Tripwire;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Runs one of these commands.
///
/// # Errors
/// Whatever stood in the way.
pub async fn run(command: &str, pillar: &Value, arguments: &Value, outside: &Outside) -> Result<Value> {
    match command {
        "addresses.scan" => scan(pillar, arguments, outside).await,
        "addresses.remap" => rewrite(pillar, arguments, outside).await,
        "addresses.restore" => restore(pillar, arguments, outside).await,
        "addresses.tripwire" => super::to_json(&site::rules(&Settings::read(pillar)?)),
        "addresses.crossings" => crossings(&Settings::read(pillar)?, arguments, outside).await,
        "site.hosts" => super::to_json(&site::lines(&Inventory::read(pillar)?)),
        "site.check" => {
            let checked = site::check(&Inventory::read(pillar)?).await?;
            let failed = checked.iter().filter(|vhost| vhost.problem.is_some()).count();
            Ok(json!({"vhosts": checked, "failed": failed}))
        }
        other => Err(super::no_such(other)),
    }
}

async fn scan(pillar: &Value, arguments: &Value, outside: &Outside) -> Result<Value> {
    let inventory = Inventory::read(pillar)?;
    let search = Arc::new(search(&inventory, arguments)?);
    let mut found = walk(&inventory, &search, arguments, outside).await?;
    if flag(arguments, "rendered") || flag(arguments, "live") {
        let hosts = minions(&inventory, arguments);
        let seconds = arguments.get("seconds").and_then(Value::as_u64).unwrap_or(60);
        if flag(arguments, "rendered") {
            found.add(texts(&search, site::rendered(outside, &hosts, seconds).await?));
        }
        if flag(arguments, "live") {
            let trees: Vec<String> =
                inventory.addresses.live.iter().map(|tree| tree.to_string_lossy().into_owned()).collect();
            let literals: Vec<String> = search.literals().map(str::to_owned).collect();
            found.add(texts(&search, site::live(outside, &hosts, &trees, &literals, seconds).await?));
        }
    }
    if flag(arguments, "databases") {
        found.add(databases(&Settings::read(pillar)?, &search).await?);
    }
    let found = found.ordered();
    let count = |verdict| found.count(verdict);
    Ok(json!({
        "table": table(&found.hits),
        "remaining": count(Verdict::Stale) + count(Verdict::Unknown),
        "counts": {"stale": count(Verdict::Stale), "unknown": count(Verdict::Unknown), "target": count(Verdict::Target),
                   "public": count(Verdict::Public), "comment": count(Verdict::Comment), "allowed": count(Verdict::Allowed)},
        "hits": found.hits,
        "files": found.files,
        "bytes": found.bytes,
        "skipped": found.skipped,
    }))
}

fn search(inventory: &Inventory, arguments: &Value) -> Result<Search> {
    let folder = remap::folder(&inventory.state_dir);
    let earlier: Result<Vec<Manifest>> =
        Manifest::all(&folder).iter().map(|id| Manifest::read(&folder, Some(id))).collect();
    Search::new(inventory, list(arguments, "commands"), earlier?)
}

/// Searches the trees on a thread of its own, so that a signal ends it.
async fn walk(inventory: &Inventory, search: &Arc<Search>, arguments: &Value, outside: &Outside) -> Result<Found> {
    let told = &inventory.addresses;
    let roots: Vec<PathBuf> = list(arguments, "roots").into_iter().map(PathBuf::from).collect();
    let roots = match arguments.get("roots") {
        Some(Value::Array(_)) => roots,
        _ => told.roots.clone(),
    };
    let tree = Tree {
        roots,
        ignore: told.ignore.clone(),
        only: scope(inventory, arguments)?,
        max_file_size: told.max_file_size,
    };
    let stop = Arc::new(AtomicBool::new(false));
    let (search, stopped) = (search.clone(), stop.clone());
    let mut work = tokio::task::spawn_blocking(move || tree.search(&search, &stopped));
    let done = tokio::select! {
        done = &mut work => done,
        _ = outside.interrupted() => {
            stop.store(true, Ordering::Relaxed);
            work.await
        }
    };
    done.map_err(|error| Error::remote("search", error))?
}

fn scope(inventory: &Inventory, arguments: &Value) -> Result<Vec<String>> {
    let Some(name) = arguments.get("scope").and_then(Value::as_str) else { return Ok(Vec::new()) };
    inventory.addresses.scopes.get(name).cloned().ok_or_else(|| {
        let known: Vec<&str> = inventory.addresses.scopes.keys().map(String::as_str).collect();
        Error::Settings {
            path: "scope".into(),
            found: format!("{name:?}"),
            expected: format!("one of migrate:addresses:scopes: {}", known.join(", ")),
            hint: "name the scope's paths in the pillar, or leave it out".into(),
        }
    })
}

fn minions(inventory: &Inventory, arguments: &Value) -> Vec<String> {
    let named = list(arguments, "minions");
    if !named.is_empty() {
        return named;
    }
    let mut all: Vec<String> = inventory.nodes.new.values().filter_map(|node| node.minion.clone()).collect();
    all.sort();
    all.dedup();
    all
}

fn texts(search: &Search, texts: Vec<Text>) -> Found {
    let mut found = Found::default();
    for Text { place, text, line } in texts {
        found.files += 1;
        found.bytes += text.len() as u64;
        found.hits.extend(search.text(&place, text.as_bytes()).into_iter().map(|mut hit| {
            hit.line += line.saturating_sub(1);
            // Such a text is somebody else's product: what it came from is what must change.
            hit.edit = None;
            hit
        }));
    }
    found
}

/// Searches what the serving primary holds; replication brings it everywhere.
async fn databases(settings: &Settings, search: &Search) -> Result<Found> {
    let servers = Servers::new(settings);
    let (old, new) = (servers.primary(Side::Old), servers.primary(Side::New));
    let serving = if new.status().await.is_ok_and(|status| !status.read_only) { new } else { old };
    let place = |what: &str| format!("database://{}/{what}", serving.name);
    let mut all = Vec::new();
    for (what, holder) in serving.literal_accounts().await? {
        all.push(Text { place: place(&what), text: holder, line: 1 });
    }
    let literals_sought: Vec<String> = search.literals().map(str::to_owned).collect();
    let mut cut = Vec::new();
    for column in &settings.addresses.columns {
        let values = serving.literal_values(column, &literals_sought).await?;
        if values.len() >= literals::ROWS {
            cut.push((place(column), format!("only the first {} rows were read", literals::ROWS)));
        }
        all.extend(values.into_iter().map(|text| Text { place: place(column), text, line: 1 }));
    }
    let mut found = texts(search, all);
    found.skipped.unreadable.extend(cut);
    Ok(found)
}

async fn rewrite(pillar: &Value, arguments: &Value, outside: &Outside) -> Result<Value> {
    let inventory = Inventory::read(pillar)?;
    let search = Arc::new(search(&inventory, arguments)?);
    let found = walk(&inventory, &search, arguments, outside).await?;
    let id = format!("remap-{}", (crate::event::now() * 1000.0).round());
    let draft = Draft::new(&id, &found.hits, &search);
    let undecided: Vec<_> =
        found.hits.iter().filter(|hit| hit.verdict == Verdict::Stale && hit.new.is_none()).cloned().collect();
    if flag(arguments, "proposal") {
        return Ok(proposal(&inventory, &found.hits));
    }
    let replaced: usize = draft.manifest.files.values().map(|file| file.edits.len()).sum();
    let mut told = json!({"files": draft.manifest.files.len(), "replacements": replaced, "diff": shown(&draft.diffs),
                          "left": draft.left, "undecided": undecided, "manifest": Value::Null, "verdict": "test"});
    if arguments.get("test").and_then(Value::as_bool).unwrap_or(true) {
        return Ok(told);
    }
    if draft.manifest.files.is_empty() {
        told["verdict"] = json!("unchanged");
        return Ok(told);
    }
    let report = remap::apply(&draft.manifest, &inventory.state_dir, outside).await?;
    told["manifest"] = json!(draft.manifest.id);
    concluded(told, &report)
}

async fn restore(pillar: &Value, arguments: &Value, outside: &Outside) -> Result<Value> {
    let inventory = Inventory::read(pillar)?;
    let id = arguments.get("manifest").and_then(Value::as_str);
    let manifest = Manifest::read(&remap::folder(&inventory.state_dir), id)?;
    let files: Vec<String> = remap::ours(&manifest).into_keys().collect();
    let told =
        json!({"manifest": manifest.id, "files": files, "changed_since": remap::foreign(&manifest), "verdict": "test"});
    if arguments.get("test").and_then(Value::as_bool).unwrap_or(true) {
        return Ok(told);
    }
    let report = remap::restore(&manifest, &inventory.state_dir, outside).await?;
    concluded(told, &report)
}

fn concluded(mut told: Value, report: &engine::Report) -> Result<Value> {
    if let Some(error) = &report.error {
        return Err(error.clone());
    }
    told["verdict"] = super::to_json(&report.verdict)?;
    Ok(told)
}

fn shown(diffs: &[Diff]) -> Vec<&String> {
    diffs.iter().flat_map(|diff| &diff.lines).collect()
}

async fn crossings(settings: &Settings, arguments: &Value, outside: &Outside) -> Result<Value> {
    let told = settings.tripwire.clone().unwrap_or_default();
    let watches = site::rules(settings);
    let counted = site::counted(outside, &watches, told.host_seconds).await?;
    let topic = Tripwire {
        outside: outside.clone(),
        watches,
        quiet: told.quiet,
        seconds: told.host_seconds,
        deserted: if flag(arguments, "deserted") { Some(deserted(settings)?) } else { None },
    };
    let findings = topic.judge(&counted);
    Ok(json!({"hosts": counted, "findings": findings, "quiet": findings.is_empty()}))
}

fn flag(arguments: &Value, key: &str) -> bool {
    arguments.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn list(arguments: &Value, key: &str) -> Vec<String> {
    let values = arguments.get(key).and_then(Value::as_array);
    values.into_iter().flatten().filter_map(|value| value.as_str().map(str::to_owned)).collect()
}
