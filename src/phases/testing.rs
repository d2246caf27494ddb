//! The test: the new side as a mirror that people may try, and old and new compared.
//!
//! In one breath: checks; every server of the new side refuses writes; the app says so; search engines are kept out; what
//! may run on one side alone is held on the new one; the copied services stand; then old and new are compared.

use super::edge;
use super::people;
use crate::database::Servers;
use crate::engine::{Graph, Role};
use crate::error::{Error, Result};
use crate::outside::Outside;
use crate::settings::{Settings, Side};
use crate::site::{self, HostFile};
use crate::steps::checks::{Check, Following, Hosts, Privileges, SingletonsThere, There};
use crate::steps::{Compared, HostFiles, ReadOnly};

/// Builds the graph of the test.
///
/// # Errors
/// [`Error::Settings`] where the pillar says nothing of a test, or a defect of the graph.
pub fn graph(phase: &str, settings: &Settings, servers: &Servers, outside: &Outside) -> Result<Graph> {
    settings.test.as_ref().ok_or_else(|| Error::Settings {
        path: "migrate:test".into(),
        found: "nothing".into(),
        expected: "what testers read".into(),
        hint: "test: {} is enough; pillar-example/migrate.sls shows the rest".into(),
    })?;
    let mut graph = Graph::new(phase);
    checks(&mut graph, settings, servers, outside);
    let mut standing = Vec::new();
    for server in servers.all().iter().filter(|server| server.side == Side::New) {
        let id = format!("read-only.{}", server.name);
        graph.add(&id, Role::Fact, ReadOnly(server.clone()));
        standing.push(id);
    }
    let notice = HostFiles {
        outside: outside.clone(),
        files: notice_files(settings, Side::New),
        content: Some(settings.mirror_notice()),
        held_until: None,
        seconds: settings.notice.host_seconds,
    };
    graph.add("notice.new", Role::Fact, notice);
    standing.push("notice.new".into());
    if let Some(step) = people::noindex(settings, outside, true) {
        graph.add("noindex", Role::Fact, step);
        standing.push("noindex".into());
    }
    for (id, step) in people::singletons(settings, outside, Side::New, true) {
        graph.add(&id, Role::Fact, step);
        standing.push(id);
    }
    let copies = settings.edge.iter().flat_map(|edge| edge.services.values()).any(|service| service.copy.is_some());
    if copies {
        standing.extend(edge::add_copies(&mut graph, settings, outside, None)?);
    }
    if settings.compare.is_some() {
        graph.add("compared", Role::Fact, Compared { settings: settings.clone() }).after(&standing);
    }
    graph.checked()
}

/// Lists the files that make the application of one side show a notice.
pub(super) fn notice_files(settings: &Settings, side: Side) -> Vec<HostFile> {
    let notice = &settings.notice;
    let file = |name: &String| {
        let node = settings.node(side, name)?;
        let path = node.notice_path.clone().unwrap_or_else(|| notice.path.clone());
        Some(HostFile { host: node.minion.clone()?, path })
    };
    notice.nodes.of(side).iter().filter_map(file).collect()
}

fn checks(graph: &mut Graph, settings: &Settings, servers: &Servers, outside: &Outside) {
    let databases = &settings.databases;
    let new: Vec<_> = servers.all().iter().filter(|server| server.side == Side::New).cloned().collect();
    let mut known = databases.may_bypass_fence.clone();
    let admin = databases.accounts.admin.user.clone();
    known.push(admin.clone());
    let replication = databases.accounts.replication.user.clone();
    let following = Following { old: servers.primary(Side::Old), new: new.clone(), replication };
    graph.add("check.test", Role::Check, Check(following));
    graph.add("check.privileges", Role::Check, Check(Privileges { primaries: new, known, admin }));
    let seconds = settings.notice.host_seconds;
    let mut minions: Vec<String> = notice_files(settings, Side::New).into_iter().map(|file| file.host).collect();
    minions.sort();
    minions.dedup();
    let hosts = Hosts { outside: outside.clone(), minions, seconds, without_minion: Vec::new() };
    graph.add("check.hosts", Role::Check, Check(hosts));
    if !settings.singletons.is_empty() {
        let check = SingletonsThere { outside: outside.clone(), all: singletons(settings), seconds };
        graph.add("check.singletons", Role::Check, Check(check));
    }
}

fn singletons(settings: &Settings) -> Vec<There> {
    let on = |side: Side| {
        settings.singletons.iter().filter_map(move |(name, one)| {
            let host = settings.node(side, &one.node)?.minion.clone()?;
            Some(There { name: name.clone(), host, service: one.service.clone(), cron: one.cron.clone() })
        })
    };
    on(Side::Old).chain(on(Side::New)).collect()
}

/// The text that people who use the site are sent.
///
/// # Errors
/// [`Error::Settings`] where the pillar says nothing of it.
pub fn announcement(settings: &Settings) -> Result<String> {
    let testing = settings.test.as_ref();
    let told = testing.and_then(|testing| Some((testing, testing.announcement.as_ref()?)));
    let Some((testing, told)) = told else {
        return Err(Error::Settings {
            path: "migrate:test:announcement".into(),
            found: "nothing".into(),
            expected: "when the move is to be, and whom to tell what is wrong".into(),
            hint: "for example announcement: {when: 'Sunday, 6 December, 04:00 UTC', contact: ops@example.org}".into(),
        });
    };
    let lines = |lines: Vec<String>| lines.into_iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n");
    let hosts = lines(site::lines(&settings.inventory()).into_values().collect());
    let copies =
        settings.edge.iter().flat_map(|edge| edge.services.values()).filter_map(|service| service.copy.as_ref());
    let domains = lines(copies.flat_map(|copy| copy.domains.clone()).collect());
    let mut limits =
        vec!["saving: the test site shows what is written on the present site, and keeps nothing".to_owned()];
    limits.extend(told.limits.clone());
    let template = told.template.as_deref().unwrap_or(if domains.is_empty() { BY_HOSTS } else { BY_DOMAINS });
    Ok(template
        .replace("{when}", &told.when)
        .replace("{contact}", &told.contact)
        .replace("{hosts}", &hosts)
        .replace("{domains}", &domains)
        .replace("{limits}", &limits.iter().map(|limit| format!("  - {limit}")).collect::<Vec<_>>().join("\n"))
        .replace("{notice}", &testing.notice))
}

const BY_HOSTS: &str = "\
We are moving to another provider: {when}.

You can try the new site now. Put these lines into the hosts file of your computer (/etc/hosts), look around, and take them
out again afterwards:

{hosts}

Where you would save, you will read: {notice}

What does not work there:
{limits}

Please tell us what is different from the present site: {contact}
";

const BY_DOMAINS: &str = "\
We are moving to another provider: {when}.

You can try the new site now, at

{domains}

or under its own names, with these lines in the hosts file of your computer (/etc/hosts); take them out again afterwards:

{hosts}

Where you would save, you will read: {notice}

What does not work there:
{limits}

Please tell us what is different from the present site: {contact}
";
