//! The migration in one screen: who runs, how the last run ended, how every server stands.

use crate::database::{Channel, Harm, Servers, Status};
use crate::error::Result;
use crate::event::now;
use crate::journal::RunState;
use crate::outside::Outside;
use crate::phases;
use crate::settings::{Settings, Side};
use crate::site;
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Gathers everything; a server that does not answer is shown as such, and is no error of the command. Whoever asks again
/// and again asks without the `hosts`.
pub async fn whole(settings: &Settings, outside: &Outside, hosts: bool) -> Result<Value> {
    let standing = phases::standing(settings)?;
    let servers = Servers::new(settings);
    let asked = servers.all().iter().map(|server| async move { (server.name.clone(), server.status().await) });
    let answers: BTreeMap<String, Result<Status>> = join_all(asked).await.into_iter().collect();
    let mut alarms = Vec::new();
    let mut shown = serde_json::Map::new();
    for (name, answer) in &answers {
        match answer {
            Ok(status) => {
                if let Some(channel) = status.channel.as_ref().filter(|channel| !channel.healthy()) {
                    alarms.push(format!("{name}: replication from {} stands: {}", channel.source, channel.error));
                }
                if !status.other_channels.is_empty() {
                    alarms.push(format!("{name}: left-over channels {}", status.other_channels.join(", ")));
                }
                let quarantine = settings.databases.quarantine_domain;
                let Some(server) = servers.named(name) else { continue };
                if status.read_only && server.dialect().await?.quarantined(status, quarantine)? {
                    alarms.push(format!(
                        "{name}: somebody wrote on it while it was fenced (domain {quarantine} in its binlog)"
                    ));
                }
                shown.insert(
                    name.clone(),
                    json!({"read_only": status.read_only, "position": status.position, "version": status.version,
                           "follows": status.channel.as_ref().map(|channel| &channel.source),
                           "healthy": status.channel.as_ref().is_none_or(|channel| channel.healthy())}),
                );
            }
            Err(error) => {
                alarms.push(error.to_string());
                shown.insert(name.clone(), json!({"error": error.to_string()}));
            }
        }
    }
    alarms.extend(errant(settings, &servers, &answers).await?);
    let writable = |side| {
        let status = answers.get(&servers.primary(side).name)?.as_ref().ok()?;
        Some(!status.read_only)
    };
    let primary = match (writable(Side::Old), writable(Side::New)) {
        (Some(true), Some(true)) => {
            let close = servers.primary(Side::Old).dialect().await?.words().close_by_hand;
            alarms.push(format!("both primaries accept writes: stop one at once, {close}"));
            "both"
        }
        (Some(true), _) => "old",
        (_, Some(true)) => "new",
        (Some(false), Some(false)) => {
            let next = match standing.last.as_ref().map(|run| run.finished.is_some()) {
                Some(false) => {
                    "finish what was begun (run the same command again) or take it back (salt-run migrate.abort)".into()
                }
                _ => {
                    let open = servers.primary(Side::Old).dialect().await?.words().open_by_hand.replace('\n', " ");
                    format!(
                        "salt-run migrate.abort ends what another machine began, or opens the one that was promoted last; where it finds nothing, {open} on the one that serves"
                    )
                }
            };
            alarms.push(format!("no primary accepts writes: {next}"));
            "none"
        }
        _ => "unknown",
    };
    let given_up = standing.last.as_ref().and_then(phases::loss::given_up);
    if let Some((position, _)) = &given_up
        && let Some(Ok(status)) = answers.get(&servers.primary(Side::New).name)
    {
        let open = if status.read_only {
            String::new()
        } else {
            let close = servers.primary(Side::New).dialect().await?.words().close_by_hand;
            format!(" and accepts writes: {close} there at once;")
        };
        alarms.push(format!(
            "{}: it was given up at {position}, and answers again{open} save what it has after that, then seed it anew",
            servers.primary(Side::New).name
        ));
    }
    let given_up = given_up.map(|(position, reason)| {
        json!({"server": servers.primary(Side::New).name, "lost_after": position, "reason": reason})
    });
    // A server that is being moved is behind on purpose.
    let health = match &standing.holder {
        Some(_) => Value::Null,
        None => super::health::whole(settings, &servers, &answers, hosts.then_some(outside), &mut alarms).await?,
    };
    let last = standing.last.map(|run| {
        let open = run.finished.is_none();
        if open && standing.holder.is_none() {
            let mut next = "type the same command again, or salt-run migrate.abort".to_owned();
            let new = &servers.primary(Side::New).name;
            if phases::takes_nothing_along(&run) && answers.get(new).is_none_or(Result::is_err) {
                next += &format!("; where {new} is gone for good, and off: salt-run migrate.abort is_off={new} reason='…'");
            }
            alarms.push(format!("run {} ({}) was not finished: {next}", run.run, run.phase));
        }
        if let Some(holder) = &standing.holder
            && stands_still(&run, settings)
        {
            alarms.push(format!(
                "run {} ({}) has not gone on for longer than any step takes, with the notice up: {holder} holds it; once that is killed (-KILL) its guard takes the run back",
                run.run, run.phase
            ));
        }
        json!({"run": run.run, "phase": run.phase, "committed": run.committed, "aborting": run.aborting,
               "finished": run.finished, "problems": run.problems})
    });
    let primaries = [Side::Old, Side::New].map(|side| servers.primary(side));
    let names = [primaries[0].name.as_str(), primaries[1].name.as_str()];
    let received = match answers.get(names[0]) {
        Some(Ok(_)) => primaries[0].received().await.ok(),
        _ => None,
    };
    let stand = names.map(|name| answers.get(name).and_then(|answer| answer.as_ref().ok()));
    let way_back = way_back(primary, names, stand, received.as_ref());
    let tripwire = match &settings.tripwire {
        Some(told) if hosts => crossings(settings, told.host_seconds, outside, &mut alarms).await,
        _ => Value::Null,
    };
    Ok(
        json!({"primary": primary, "way_back": way_back, "running": standing.holder, "last_run": last, "given_up": given_up, "servers": Value::Object(shown),
              "health": health, "tripwire": tripwire, "alarms": alarms}),
    )
}

/// Tells whether a run that bothers people has not gone on for longer than any step of its takes.
fn stands_still(run: &RunState, settings: &Settings) -> bool {
    let bothers = run.started().any(|step| step.starts_with("notice."));
    if run.finished.is_some() || !bothers || !matches!(run.phase.as_str(), "flip" | "revert") {
        return false;
    }
    let last = run.spans.values().map(|span| span.began.max(span.ended)).fold(0.0, f64::max);
    let (notice, deadlines) = (&settings.notice, &settings.databases.deadlines);
    let ms = notice.host_seconds * 1000 + notice.drain_limit + deadlines.window;
    (now() - last) * 1000.0 > ms as f64
}

/// Shows what the hosts' tripwires count; a host that does not answer is shown as such.
async fn crossings(settings: &Settings, seconds: u64, outside: &Outside, alarms: &mut Vec<String>) -> Value {
    match site::counted(outside, &site::rules(settings), seconds).await {
        Ok(told) => {
            for (host, counted) in told.iter().filter(|(_, counted)| !counted.recent.is_empty()) {
                let places: Vec<String> = counted
                    .recent
                    .iter()
                    .map(|crossing| {
                        format!(
                            "{} {}",
                            crossing.address,
                            crossing.port.map_or_else(String::new, |port| port.to_string())
                        )
                    })
                    .collect();
                alarms.push(format!("{host}: the sides still talk past the allowed links: {}", places.join(", ")));
            }
            serde_json::to_value(told).unwrap_or_default()
        }
        Err(error) => {
            alarms.push(error.to_string());
            json!({"error": error.to_string()})
        }
    }
}

/// Names what stands in the way of replication on any server, where one primary writes.
async fn errant(
    settings: &Settings,
    servers: &Servers,
    answers: &BTreeMap<String, Result<Status>>,
) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let status = |name: &str| answers.get(name).and_then(|answer| answer.as_ref().ok());
    let open = [Side::Old, Side::New].into_iter().map(|side| servers.primary(side));
    let mut primaries = open.filter_map(|server| status(&server.name)).filter(|status| !status.read_only);
    let (Some(primary), None) = (primaries.next(), primaries.next()) else { return Ok(found) };
    for server in servers.all() {
        let (name, Some(theirs)) = (&server.name, status(&server.name)) else { continue };
        if theirs.family != primary.family {
            continue;
        }
        for one in server.dialect().await?.errant(theirs, primary, settings.databases.quarantine_domain)? {
            match one.harm {
                Harm::Stops => {
                    found.push(format!("{name}: transaction {} is on it alone, and replication will stop at it", one.gtids));
                }
                Harm::Spreads => found.push(format!(
                    "{name}: somebody wrote on it while it was fenced: transaction {} is on it alone, and would spread from it",
                    one.gtids
                )),
                // Of what was written before it was seeded a primary need not know.
                Harm::Stays | Harm::Quarantined => {}
            }
        }
    }
    Ok(found)
}

/// Says what going back to the old side would cost now, and by what it is known.
fn way_back(primary: &str, [old, new]: [&str; 2], statuses: [Option<&Status>; 2], received: Option<&String>) -> String {
    match (primary, statuses) {
        ("old", _) => "the old side serves".into(),
        ("new", [Some(status), Some(_)]) if status.channel.as_ref().is_some_and(Channel::healthy) => {
            format!("a revert loses nothing: {old} follows {new}, and a revert waits until it has everything")
        }
        ("new", [Some(status), Some(theirs)]) => format!(
            "{old} does not follow; it has everything up to {}, and {new} is at {}: mend the channel before a revert",
            status.position, theirs.position
        ),
        ("new", [None, _]) => format!("{old} does not answer: bring it back before a revert"),
        (_, [Some(status), None]) => format!(
            "{new} does not answer; {old} received everything up to {received}, and what {new} acknowledged after that is on {new} alone: \
             bring it back, for going back without it loses that. Where it is gone for good and off: \
             salt-run migrate.revert accept_loss={received} is_off={new} reason='…'",
            received = received.unwrap_or(&status.position)
        ),
        _ => "not known".into(),
    }
}
