//! What can be asked for, by name: one entry for the runner, the states and the execution modules alike.
//!
//! Invariant: what comes out is plain data without secrets.

mod addresses;
mod cloud;
mod edge;
mod health;
mod people;
mod report;
mod status;

use crate::database::Servers;
use crate::engine::Force;
use crate::error::{Error, Result};
use crate::outside::Outside;
use crate::phases::{self, Gone, Loss, Phase};
use crate::settings::Settings;
use serde_json::{Value, json};

/// What only looks: it ends where somebody asks for the end. What changes something has its own way to end.
const LOOKS: [&str; 12] = [
    "plan",
    "status",
    "report",
    "database.status",
    "database.position",
    "database.wait",
    "edge.plan",
    "edge.status",
    "compare",
    "cloud.check",
    "cloud.flavors",
    "cloud.inventory",
];

/// Runs one command on the value of the pillar key `migrate`.
///
/// | command | arguments | returns |
/// |---|---|---|
/// | `plan` | `phase` | changes, findings, what is unchanged |
/// | `apply` | `phase`, `guarded`, `force`, `reason`; of a revert `accept_loss`, `is_off` | what was done, by step |
/// | `guard` | `phase`, `process` | what had to be taken back when the process died or hung, or nothing |
/// | `abort` | `is_off`, `reason` | what was taken back, or nothing |
/// | `status` | `hosts`: false leaves out what they are asked about their disks | the lock, the last run, every server |
/// | `report` | | the last report |
/// | `database.status` | `server` | how one server stands |
/// | `database.position` | `server` | its GTID position |
/// | `edge.plan`, `edge.apply` | `phase`, `service` | as above, at the CDN alone: of every service, or of one |
/// | `edge.status` | `service` | how services stand, with their copies |
/// | `addresses.…`, `site.…` | | see `addresses.rs` |
/// | `database.wait` | `server`, `position`, `milliseconds` | whether it has everything up to there |
/// | `database.checksum` | `source`, `replica`, `tables` | how far their data was compared, and what differs |
/// | `signoff` | `gate`, `role`, `who`, `note` | how every role stands; with a role, after it signed |
/// | `compare` | | in what new differs from old |
/// | `rehearse` | | how long each part of the switch took, on the copies |
/// | `announcement` | | the text for the people who use the site |
/// | `cloud.check` | | what stands between us and the clouds |
/// | `cloud.flavors` | | the best flavors of each server, and why not the others |
/// | `cloud.inventory` | `grains` | what the old side consists of, proposed as pillar |
///
/// # Errors
/// Whatever stood in the way; a run that failed is an error only in `verdict` and `error` of what is returned.
/// [`Error::Interrupted`] of what only looks.
pub async fn run(command: &str, pillar: &Value, arguments: &Value, outside: &Outside) -> Result<Value> {
    tokio::select! {
        answer = answer(command, pillar, arguments, outside) => answer,
        why = outside.interrupted(), if LOOKS.contains(&command) => Err(Error::Interrupted(why)),
    }
}

async fn answer(command: &str, pillar: &Value, arguments: &Value, outside: &Outside) -> Result<Value> {
    if command.starts_with("addresses.") || command.starts_with("site.") {
        return addresses::run(command, pillar, arguments, outside).await;
    }
    if let Some(answer) = cloud::run(command, pillar, arguments, outside).await? {
        return Ok(answer);
    }
    let settings = Settings::read(pillar)?;
    if let Some(answer) = people::run(command, &settings, arguments, outside).await? {
        return Ok(answer);
    }
    let phase = || Phase::named(arguments.get("phase").and_then(Value::as_str).unwrap_or_default());
    match command {
        "plan" => {
            let plan = phases::plan(phase()?, &settings, outside).await?;
            Ok(json!({"phase": plan.phase, "changes": plan.changes, "findings": plan.findings,
                      "unchanged": plan.unchanged, "refused": plan.refused()}))
        }
        "apply" => {
            let guarded = arguments.get("guarded").and_then(Value::as_bool).unwrap_or(false);
            if let Some(loss) = loss(arguments, phase()?)? {
                return report::write(&settings, phases::revert_with_loss(&settings, outside, &loss).await?).await;
            }
            let (force, mut ended) = (force(arguments)?, None);
            let done = phases::apply(phase()?, &settings, outside, guarded, &force, &mut ended).await;
            if let Some(ended) = ended {
                report::write(&settings, ended).await?;
            }
            report::write(&settings, done?).await
        }
        "guard" => {
            let process = arguments.get("process").and_then(Value::as_i64).and_then(|pid| i32::try_from(pid).ok());
            match phases::watch(phase()?, process.unwrap_or_default(), &settings, outside).await? {
                Some(report) => report::write(&settings, report).await,
                None => Ok(json!({"verdict": "unchanged", "run": Value::Null})),
            }
        }
        "abort" => match phases::abort(&settings, outside, gone(arguments)?.as_ref()).await? {
            Some(report) => report::write(&settings, report).await,
            None => Ok(json!({"verdict": "unchanged", "run": Value::Null})),
        },
        "status" => {
            let hosts = arguments.get("hosts").and_then(Value::as_bool).unwrap_or(true);
            status::whole(&settings, outside, hosts).await
        }
        "report" => report::last(&settings),
        "database.status" => to_json(&server(&settings, arguments, "server")?.status().await?),
        "database.position" => to_json(&server(&settings, arguments, "server")?.status().await?.position),
        "database.wait" => {
            let position = arguments.get("position").and_then(Value::as_str).unwrap_or_default();
            let limit = arguments.get("milliseconds").and_then(Value::as_u64).unwrap_or(10_000);
            to_json(&server(&settings, arguments, "server")?.has(position, limit).await?)
        }
        "database.checksum" => {
            let pair = (server(&settings, arguments, "source")?, server(&settings, arguments, "replica")?);
            let tables: Option<Vec<String>> =
                arguments.get("tables").and_then(|tables| serde_json::from_value(tables.clone()).ok());
            Ok(edge::told(phases::checksum(&settings, outside, pair.0, pair.1, tables.unwrap_or_default()).await?))
        }
        "edge.plan" | "edge.apply" | "edge.status" => edge::run(&command[5..], &settings, arguments, outside).await,
        other => Err(no_such(other)),
    }
}

fn no_such(command: &str) -> Error {
    Error::Settings {
        path: "command".into(),
        found: format!("{command:?}"),
        expected: "a command of this version".into(),
        hint: "install one version of the extension, whole, on the master".into(),
    }
}

/// Reads which findings somebody takes on themselves: one id, or a list of them.
///
/// # Errors
/// [`Error::Settings`] where it is anything else: a `True` is no finding.
fn force(arguments: &Value) -> Result<Force> {
    let id = |value: &Value| {
        value.as_str().map(str::to_owned).ok_or_else(|| Error::Settings {
            path: "force".into(),
            found: value.to_string(),
            expected: "the id of one finding, or a list of such ids".into(),
            hint: "salt-run migrate.preflight shows the id of each finding".into(),
        })
    };
    let findings = match arguments.get("force") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) => list.iter().map(id).collect::<Result<_>>()?,
        Some(one) => vec![id(one)?],
    };
    let reason = arguments.get("reason").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(Force { findings, reason })
}

/// Reads what somebody takes on who goes back without the new primary.
///
/// # Errors
/// [`Error::Settings`] where it is not a text, or the phase has no such way.
fn loss(arguments: &Value, phase: Phase) -> Result<Option<Loss>> {
    let text = |key: &str| text(arguments, key);
    let Some(accepted) = text("accept_loss")? else { return Ok(None) };
    if phase != Phase::Revert {
        return Err(Error::Settings {
            path: "accept_loss".into(),
            found: format!("migrate.{}", phase.name()),
            expected: "migrate.revert, the one phase that can go without the other side".into(),
            hint: "salt-run migrate.revert accept_loss=… is_off=… reason=…, as salt-run migrate.status says".into(),
        });
    }
    let (off, reason) = (text("is_off")?.unwrap_or_default(), text("reason")?.unwrap_or_default());
    Ok(Some(Loss { accepted, off, reason }))
}

/// Reads which server somebody vouches for that it is off.
///
/// # Errors
/// [`Error::Settings`] where it is not a text.
fn gone(arguments: &Value) -> Result<Option<Gone>> {
    let Some(off) = text(arguments, "is_off")? else { return Ok(None) };
    Ok(Some(Gone { off, reason: text(arguments, "reason")?.unwrap_or_default() }))
}

fn text(arguments: &Value, key: &str) -> Result<Option<String>> {
    match arguments.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(Error::Settings {
            path: key.into(),
            found: other.to_string(),
            expected: "a text".into(),
            hint: "salt-run migrate.status says what would be lost, and what to type".into(),
        }),
    }
}

fn server(settings: &Settings, arguments: &Value, key: &str) -> Result<std::rc::Rc<crate::database::Server>> {
    let servers = Servers::new(settings);
    let name = arguments.get(key).and_then(Value::as_str).unwrap_or_default();
    servers.named(name).ok_or_else(|| {
        let known: Vec<&str> = servers.all().iter().map(|server| server.name.as_str()).collect();
        Error::Settings {
            path: key.into(),
            found: format!("{name:?}"),
            expected: format!("one of {}", known.join(", ")),
            hint: "servers are named by side and node of migrate:databases".into(),
        }
    })
}

fn to_json(value: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| Error::Journal(error.to_string()))
}
