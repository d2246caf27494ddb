//! What comes from outside may be anything: quoting, settings, journals and answers of APIs, by the thousand.
//!
//! Everything is made from a fixed seed, so that a failure can be seen again. A panic anywhere fails the test.

use _native::command;
use _native::database::quote;
use _native::error::Error;
use _native::journal::{Journal, runs};
use _native::outside::Outside;
use _native::settings::Settings;
use serde_json::{Map, Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

const SECRET: &str = "hunter2-planted";

/// Numbers that look random and are always the same: xorshift.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }

    fn text(&mut self) -> String {
        let letters =
            ['a', '\'', '"', '`', '\\', '\0', '\n', ';', '-', '%', '_', 'ß', '∂', '\u{1f600}', '\u{301}', ' '];
        let length = self.below(24);
        (0..length).map(|_| letters[self.below(letters.len())]).collect()
    }

    fn value(&mut self) -> Value {
        match self.below(11) {
            0 => Value::Null,
            1 => json!(self.below(2) == 0),
            2 => json!(self.next()),
            3 => json!(-1),
            4 => json!(1e308),
            5 => json!([]),
            6 => json!({}),
            7 => json!(self.text()),
            8 => json!("9".repeat(40)),
            9 => json!([[{"id": {"id": []}}]]),
            _ => json!({"": {"links": [null], "name": 7}}),
        }
    }

    /// Changes one place of a value: replaces it, drops it, doubles it, or calls it otherwise.
    fn bend(&mut self, value: &mut Value) {
        let deeper = self.below(5) > 0;
        match value {
            Value::Object(map) if deeper && !map.is_empty() => {
                let key = map.keys().nth(self.below(map.len())).cloned().unwrap();
                match self.below(8) {
                    0 => drop(map.remove(&key)),
                    1 => {
                        let moved = map.remove(&key).unwrap();
                        map.insert(self.text(), moved);
                    }
                    _ => self.bend(map.get_mut(&key).unwrap()),
                }
            }
            Value::Array(list) if deeper && !list.is_empty() => {
                let at = self.below(list.len());
                match self.below(6) {
                    0 => drop(list.remove(at)),
                    1 => list.push(list[at].clone()),
                    _ => self.bend(&mut list[at]),
                }
            }
            _ => *value = self.value(),
        }
    }
}

/// Reads a literal as the server does, and returns what is behind it.
fn unquoted(sql: &str, mark: char, escapes: bool) -> (String, String) {
    let mut letters = sql.chars().peekable();
    assert_eq!(letters.next(), Some(mark));
    let mut text = String::new();
    loop {
        match letters.next().expect("it ends") {
            '\\' if escapes => match letters.next().expect("an escape is whole") {
                '0' => text.push('\0'),
                other => text.push(other),
            },
            letter if letter == mark => {
                if letters.peek() != Some(&mark) {
                    return (text, letters.collect());
                }
                letters.next();
                text.push(mark);
            }
            letter => text.push(letter),
        }
    }
}

#[test]
fn whatever_is_quoted_is_one_literal_or_one_name() {
    let mut chance = Chance(7);
    for _ in 0..50_000 {
        let wild = chance.text();
        let literal = format!("{}, 'next'", quote::text(&wild));
        assert_eq!(unquoted(&literal, '\'', true), (wild.clone(), ", 'next'".to_owned()));
        let name = format!("{}.next", quote::name(&wild));
        // A name cannot hold a NUL.
        assert_eq!(unquoted(&name, '`', false), (wild.replace('\0', ""), ".next".to_owned()));
    }
}

fn pillar(api: &str, state_dir: &str) -> Value {
    json!({
        "state_dir": state_dir,
        "nodes": {
            "old": {"db1": {"private": "10.70.0.11", "minion": "a"}, "app1": {"private": "10.70.0.21", "public": "192.0.2.1", "minion": "b"}},
            "new": {"db1": {"private": "10.80.0.11", "minion": "c"}, "app1": {"private": "10.80.0.21", "public": "192.0.2.2", "minion": "d"}},
        },
        "databases": {
            "old": {"primary": "db1"}, "new": {"primary": "db1"}, "deadlines": {"fence": 1000},
            "accounts": {
                "admin": {"user": "migrate", "password": SECRET},
                "marker": {"user": "marker", "password": SECRET},
                "replication": {"user": "replication", "password": SECRET},
            },
            "tls": {"ca": "/etc/ca.pem"},
        },
        "notice": {"text": "Migration in progress", "nodes": {"old": ["app1"], "new": ["app1"]}},
        "edge": {"token": SECRET, "api": api, "services": {
            "docs": {"id": "SU1Z0isxPaozGVKXdv0eY0", "purge": "all", "leave": ["store"],
                     "probe": {"url": "http://docs.example.org/", "addresses": ["127.0.0.1:9"]}},
        }, "deadlines": {"request": 2000, "quota": 10}},
        "clouds": {"old": cloud(api), "new": cloud(api)},
        "prepare": {
            "image": "debian", "network": "site",
            "servers": {"app1": {"vcpus": 1, "ram": 512, "disk": 5}},
        },
        "tripwire": {"quiet": 60}, "vhosts": {}, "names": {},
    })
}

fn cloud(api: &str) -> Value {
    json!({"auth": {"auth_url": format!("{api}/v3"), "username": "u", "password": SECRET, "project_name": "p"},
           "deadlines": {"connect": 1000, "request": 2000}})
}

#[test]
fn whatever_the_pillar_holds_is_read_or_refused_and_no_secret_is_repeated() {
    let mut chance = Chance(11);
    let whole = pillar("http://127.0.0.1:9", "/tmp");
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let mut bent = whole.clone();
        for _ in 0..=chance.below(3) {
            chance.bend(&mut bent);
        }
        match Settings::read(&bent) {
            Ok(settings) => {
                taken += 1;
                assert!(!format!("{settings:?}").contains(SECRET));
            }
            Err(error @ Error::Settings { .. }) => {
                refused += 1;
                assert!(!error.to_string().contains(SECRET), "{error}");
                assert!(error.to_string().starts_with("migrate"), "{error}");
                assert!(!error.hint().is_empty());
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(taken > 500 && refused > 500, "{taken} taken, {refused} refused");
}

#[test]
fn whatever_a_journal_holds_is_read_or_refused_and_never_more_than_was_written() {
    let mut chance = Chance(13);
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::begin(folder.path(), "flip", "hash").unwrap();
    for step in ["tables.old-db1", "fence", "promotion"] {
        journal.start(step, &json!(false), &json!({"a": [1, "x"]})).unwrap();
    }
    let path = folder.path().join("runs").join(format!("{}.jsonl", journal.state().run));
    drop(journal);
    let whole = fs::read(&path).unwrap();
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..4_000 {
        let mut bent = whole.clone();
        for _ in 0..=chance.below(3) {
            let at = chance.below(bent.len());
            match chance.below(4) {
                0 => bent[at] = u8::try_from(chance.below(256)).unwrap(),
                1 => bent.truncate(at.max(1)),
                2 => bent.extend_from_within(at..),
                _ => drop(bent.remove(at)),
            }
        }
        fs::write(&path, &bent).unwrap();
        match runs(folder.path()) {
            Ok(found) => {
                taken += 1;
                let started = found.iter().flat_map(|run| run.started()).count();
                // A line that is there twice, with another name, is another step.
                let lines = bent.split(|byte| *byte == b'\n').count();
                assert!(started < lines.max(4), "{}", String::from_utf8_lossy(&bent));
            }
            Err(Error::Journal(_)) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(taken > 100 && refused > 100, "{taken} taken, {refused} refused");
}

/// What a sane API of either kind answers, by the end of the path.
fn sane(path: &str, base: &str) -> Value {
    let path = path.split('?').next().unwrap_or(path);
    let version = json!({"number": 1, "active": true, "locked": true, "comment": "", "staging": false});
    let backend = json!({"name": "app1", "address": "10.70.0.21", "port": 80, "weight": 1});
    let details = json!({"id": "SU1Z0isxPaozGVKXdv0eY0", "name": "docs", "type": "vcl", "active_version":
        {"number": 1, "backends": [backend], "domains": [{"name": "docs.example.org"}], "settings": {}}});
    let endpoint = |kind: &str| json!({"type": kind, "endpoints": [{"interface": "public", "region": "R", "region_id": "R", "url": base}]});
    match path.rsplit('/').next().unwrap_or_default() {
        "version" => json!([version]),
        "details" => details,
        "service" => json!([{"id": "SU1Z0isxPaozGVKXdv0eY0", "name": "docs", "versions": [version]}]),
        "tokens" if path.starts_with("/tokens") => json!({"scopes": ["global"], "services": [], "expires_at": null}),
        "tokens" => json!({"token": {"expires_at": "2099-01-01T00:00:00.000000Z", "project": {"id": "p", "name": "p"},
            "catalog": [endpoint("compute"), endpoint("network"), endpoint("image")]}}),
        "detail" if path.contains("servers") => json!({"servers": [{"id": "s", "name": "app1", "status": "ACTIVE",
            "addresses": {"site": [{"addr": "10.70.0.21", "OS-EXT-IPS:type": "fixed", "version": 4}]},
            "flavor": {"original_name": "m1"}, "image": {"id": "i"}, "metadata": {}, "key_name": null,
            "security_groups": [{"name": "default"}]}]}),
        "detail" => json!({"flavors": [{"id": "f", "name": "m1", "vcpus": 1, "ram": 512, "disk": 5, "swap": "",
            "OS-FLV-EXT-DATA:ephemeral": 0, "os-flavor-access:is_public": true, "rxtx_factor": 1.0, "links": []}]}),
        "limits" => {
            json!({"limits": {"absolute": {"maxTotalInstances": 10, "totalInstancesUsed": 1, "maxTotalCores": 20,
            "totalCoresUsed": 1, "maxTotalRAMSize": 51200, "totalRAMUsed": 512, "maxServerGroups": 10, "totalServerGroupsUsed": 0,
            "maxTotalKeypairs": 100}}})
        }
        "images" => json!({"images": [{"id": "i", "name": "debian", "status": "active", "min_disk": 0, "min_ram": 0,
            "visibility": "public", "container_format": "bare", "disk_format": "qcow2", "created_at": "2026-01-01T00:00:00Z"}]}),
        "networks" | "networks.json" => {
            json!({"networks": [{"id": "n", "name": "site", "status": "ACTIVE", "subnets": ["x"],
            "admin_state_up": true, "shared": false, "router:external": false, "project_id": "p"}]})
        }
        "subnets" => {
            json!({"subnets": [{"id": "x", "name": "x", "network_id": "n", "cidr": "10.80.0.0/24", "ip_version": 4,
            "gateway_ip": "10.80.0.1", "allocation_pools": [{"start": "10.80.0.2", "end": "10.80.0.200"}], "enable_dhcp": true}]})
        }
        "ports" => json!({"ports": []}),
        "security-groups" => json!({"security_groups": []}),
        "os-keypairs" => json!({"keypairs": []}),
        "os-server-groups" => json!({"server_groups": []}),
        "quotas" | "p" => json!({"quota": {"port": 100, "security_group": 10}}),
        _ => json!({"versions": {"values": []}, "version": {"id": "v2.1", "status": "CURRENT", "version": "2.90",
            "min_version": "2.1", "links": [{"rel": "self", "href": base}]}}),
    }
}

/// An API: `answer` is told path, method and its own place, and returns what follows `HTTP/1.1 `.
fn serve(mut answer: impl FnMut(&str, &str, &str) -> Vec<u8> + Send + 'static) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicU64::new(0));
    let (told, asked) = (base.clone(), count.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut request = [0; 8192];
            let Ok(length) = stream.read(&mut request) else { continue };
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let mut words = request.split(' ');
            let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or("/"));
            asked.fetch_add(1, Ordering::Relaxed);
            let _ = stream.write_all(b"HTTP/1.1 ").and_then(|()| stream.write_all(&answer(path, method, &told)));
        }
    });
    (base, count)
}

/// What it answers where it is asked to page on: behind the last there is nothing, or whoever pages pages for ever.
fn page(path: &str, base: &str) -> Value {
    let mut body = sane(path, base);
    if let (true, Value::Object(lists)) = (path.contains("marker="), &mut body) {
        lists.values_mut().filter_map(Value::as_array_mut).for_each(Vec::clear);
    }
    body
}

fn answer(head: &str, text: &[u8]) -> Vec<u8> {
    let head = format!(
        "{head}\r\nContent-Type: application/json\r\nX-Subject-Token: t\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        text.len()
    );
    [head.as_bytes(), text].concat()
}

/// An API that answers sense and nonsense; returns where it is, and counts what it was asked.
fn api(seed: u64) -> (String, Arc<AtomicU64>) {
    let mut chance = Chance(seed);
    serve(move |path, method, told| {
        let mut body = page(path, told);
        for _ in 0..chance.below(4) {
            chance.bend(&mut body);
        }
        let mut text = body.to_string().into_bytes();
        match chance.below(24) {
            0 => text.truncate(chance.below(text.len())),
            1 => text = chance.text().into_bytes(),
            2 => text = vec![0xff, 0xfe, 0x00],
            3 => text = "[".repeat(3_000).into_bytes(),
            _ => {}
        }
        let status = match chance.below(16) {
            0 => "500 Internal Server Error",
            1 => "404 Not Found",
            2 => "429 Too Many Requests",
            3 => "204 No Content",
            _ if method == "POST" => "201 Created",
            _ => "200 OK",
        };
        let link = if chance.below(12) == 0 { "\r\nLink: <x>; rel=\"next\"" } else { "" };
        let quota = ["", "\r\nFastly-RateLimit-Remaining: x\r\nFastly-RateLimit-Reset: -1"][chance.below(2)];
        answer(&format!("{status}{link}{quota}"), &text)
    })
}

/// Nobody is there: who asks is told so at once. One who listened and did not answer would be waited for.
fn outside() -> Outside {
    let (messages, _) = mpsc::channel();
    let (_, interrupted) = tokio::sync::watch::channel(None);
    Outside::new(messages, interrupted)
}

fn ask(commands: &[(&str, Value)], seed: u64, times: usize) -> Map<String, Value> {
    let (base, count) = api(seed);
    let folder = tempfile::tempdir().unwrap();
    let pillar = pillar(&base, folder.path().to_str().unwrap());
    let outside = outside();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut ends = Map::new();
    for _ in 0..times {
        for (command, arguments) in commands {
            let told = runtime.block_on(command::run(command, &pillar, arguments, &outside));
            let text = format!("{told:?}");
            assert!(!text.contains(SECRET), "{command}: {text}");
            let word = told.map_or_else(|error| error.kind(), |_| "answered");
            let key = format!("{command} {word}");
            let seen = ends.get(&key).and_then(Value::as_u64).unwrap_or(0);
            ends.insert(key, json!(seen + 1));
        }
    }
    assert!(count.load(Ordering::Relaxed) > times as u64);
    ends
}

#[test]
fn whatever_the_cdn_answers_is_taken_or_refused() {
    let commands = [
        ("edge.status", json!({})),
        ("edge.plan", json!({"phase": "stage"})),
        ("edge.plan", json!({"phase": "remove-copies"})),
    ];
    let ends = ask(&commands, 17, 60);
    assert!(ends.contains_key("edge.status answered") && ends.contains_key("edge.status remote"), "{ends:?}");
}

#[test]
fn whatever_a_cloud_answers_is_taken_or_refused() {
    let commands = [("cloud.check", json!({})), ("cloud.flavors", json!({})), ("cloud.inventory", json!({}))];
    let ends = ask(&commands, 19, 10);
    assert!(ends.contains_key("cloud.check answered"), "{ends:?}");
    assert!(ends.contains_key("cloud.flavors remote"), "{ends:?}");
}

#[test]
fn whoever_answers_the_same_page_for_ever_is_told_so() {
    let (base, count) = serve(|path, method, told| {
        let mut body = page(path, told);
        if path.contains("/ports") {
            body = json!({"ports": [{"id": "a"}], "ports_links": [{"rel": "next", "href": told}]});
        }
        answer(if method == "POST" { "201 Created" } else { "200 OK" }, body.to_string().as_bytes())
    });
    let folder = tempfile::tempdir().unwrap();
    let pillar = pillar(&base, folder.path().to_str().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let told = runtime.block_on(command::run("cloud.inventory", &pillar, &json!({}), &outside())).unwrap();
    let problems = told["problems"].to_string();
    assert!(problems.contains("the same page again and again"), "{problems}");
    assert!(count.load(Ordering::Relaxed) < 50);
}
