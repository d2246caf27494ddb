//! Each refusal of the settings, with its words.

use super::*;
use serde_json::json;

fn pillar() -> Value {
    json!({
        "nodes": {
            "old": {"db1": {"private": "10.70.0.11", "minion": "old-db1"}, "app1": {"private": "10.70.0.21", "minion": "a"}},
            "new": {"db1": {"private": "10.80.0.11", "minion": "new-db1"}, "app1": {"private": "10.80.0.21", "minion": "b"}},
        },
        "databases": {
            "old": {"primary": "db1"}, "new": {"primary": "db1"},
            "accounts": {
                "admin": {"user": "migrate", "password": "hunter2"},
                "marker": {"user": "marker", "password": "hunter2"},
                "replication": {"user": "replication", "password": "hunter2"},
            },
        },
        "notice": {"text": "Migration in progress", "nodes": {"old": ["app1"], "new": ["app1"]}},
    })
}

fn refusal(change: impl FnOnce(&mut Value)) -> (String, String) {
    let mut pillar = pillar();
    change(&mut pillar);
    match Settings::read(&pillar) {
        Err(Error::Settings { path, found, expected, hint }) => {
            assert!(!found.is_empty() && !expected.is_empty() && !hint.is_empty());
            (path, format!("{found} / {expected}"))
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn a_complete_pillar_is_read_and_defaults_are_filled() {
    let settings = Settings::read(&pillar()).unwrap();
    assert_eq!(settings.databases.port, 3306);
    assert_eq!(settings.notice.content(), "Migration in progress\n");
    assert_eq!(settings.hash.len(), 64);
}

#[test]
fn a_secret_is_never_printed_and_never_hashed() {
    let settings = Settings::read(&pillar()).unwrap();
    assert!(!format!("{settings:?}").contains("hunter2"));
    let mut rotated = pillar();
    rotated["databases"]["accounts"]["admin"]["password"] = json!("other");
    assert_eq!(Settings::read(&rotated).unwrap().hash, settings.hash);
}

#[test]
fn unknown_and_missing_keys_are_named_with_their_path() {
    let (path, words) = refusal(|pillar| pillar["databases"]["relay"] = json!("x"));
    assert_eq!(path, "migrate:databases:relay");
    assert!(words.contains("unknown field `relay`"), "{words}");
    let (path, words) = refusal(|pillar| {
        pillar["databases"]["accounts"]["admin"].as_object_mut().unwrap().remove("password");
    });
    assert_eq!(path, "migrate:databases:accounts:admin");
    assert!(words.contains("password"), "{words}");
    assert!(matches!(Settings::read(&Value::Null), Err(Error::Settings { path, .. }) if path == "migrate"));
}

#[test]
fn a_misplaced_secret_is_not_quoted_in_the_refusal() {
    let (_, words) = refusal(|pillar| pillar["databases"]["port"] = json!("hunter2"));
    assert!(!words.contains("hunter2"), "{words}");
}

#[test]
fn bad_addresses_and_shared_addresses_are_refused() {
    let (path, _) = refusal(|pillar| pillar["nodes"]["old"]["db1"]["private"] = json!("10.70.0"));
    assert_eq!(path, "migrate:nodes:old:db1:private");
    let (path, words) = refusal(|pillar| pillar["nodes"]["new"]["db1"]["private"] = json!("10.70.0.11"));
    assert_eq!(path, "migrate:nodes:new:db1:private");
    assert!(words.contains("no other node"), "{words}");
}

#[test]
fn a_server_twice_in_the_chain_and_an_unknown_node_are_refused() {
    let (path, _) = refusal(|pillar| pillar["databases"]["new"]["replicas"] = json!(["db1"]));
    assert_eq!(path, "migrate:databases:new:replicas:0");
    let (path, words) = refusal(|pillar| pillar["databases"]["old"]["primary"] = json!("db9"));
    assert_eq!(path, "migrate:databases:old:primary");
    assert!(words.contains("app1, db1"), "{words}");
}

#[test]
fn a_notice_needs_a_minion_and_a_text() {
    let (path, _) = refusal(|pillar| {
        pillar["nodes"]["old"]["app1"].as_object_mut().unwrap().remove("minion");
    });
    assert_eq!(path, "migrate:notice:nodes:old:0");
    let (path, _) = refusal(|pillar| pillar["notice"]["text"] = json!(" "));
    assert_eq!(path, "migrate:notice:text");
}

fn with_copy(pillar: &mut Value, copy: &Value) {
    let services = json!({"docs": {"id": "a1", "copy": copy},
                          "blog": {"id": "b2", "copy": {"name": "blog-copy", "domains": ["blog-copy.example.org"]}}});
    pillar["edge"] = json!({"token": "hunter2", "services": services});
}

#[test]
fn copies_share_neither_names_nor_domains_and_have_one() {
    let path = |key: &str| format!("migrate:edge:services:docs:copy:{key}");
    for (copy, key) in [
        (json!({"name": "blog-copy", "domains": ["docs-copy.example.org"]}), "name"),
        (json!({"name": " ", "domains": ["docs-copy.example.org"]}), "name"),
        (json!({"name": "docs-copy", "domains": []}), "domains"),
        (json!({"name": "docs-copy", "domains": ["Blog-Copy.example.org"]}), "domains"),
    ] {
        assert_eq!(refusal(|pillar| with_copy(pillar, &copy)).0, path(key));
    }
    let mut right = pillar();
    with_copy(&mut right, &json!({"name": "docs-copy", "domains": ["docs-copy.example.org"]}));
    assert!(Settings::read(&right).is_ok());
}

#[test]
fn a_name_beside_the_cdn_has_a_value_on_either_side() {
    let name = |pillar: &mut Value, name: &Value| pillar["names"] = json!({"example.org": name});
    let (path, _) = refusal(|pillar| name(pillar, &json!({"ttl": 300})));
    assert_eq!(path, "migrate:names:example.org");
    let (path, words) = refusal(|pillar| name(pillar, &json!({"node": "app1", "ttl": 300})));
    assert_eq!(path, "migrate:names:example.org:node");
    assert!(words.contains("public address"), "{words}");
    let mut right = pillar();
    right["nodes"]["old"]["app1"]["public"] = json!("203.0.113.21");
    right["nodes"]["new"]["app1"]["public"] = json!("2001:db8::21");
    right["names"] = json!({"example.org": {"node": "app1", "ttl": 300},
                            "www.example.org": {"values": {"old": "a.example.net", "new": "b.example.net"}, "ttl": 60}});
    let settings = Settings::read(&right).unwrap();
    let on = |name: &str, side| settings.names[name].on(&settings, side);
    assert_eq!(on("example.org", Side::Old), Some(("A".into(), "203.0.113.21".into())));
    assert_eq!(on("example.org", Side::New), Some(("AAAA".into(), "2001:db8::21".into())));
    assert_eq!(on("www.example.org", Side::New), Some(("CNAME".into(), "b.example.net".into())));
}

#[test]
fn a_cron_is_held_by_a_singleton_or_by_the_freeze() {
    let both = |pillar: &mut Value, node: &str| {
        pillar["singletons"] = json!({"dumps": {"node": node, "cron": "/etc/cron.d/dumps"}});
        pillar["freeze"] = json!({"crons": ["/etc/cron.d/reports", "/etc/cron.d/dumps"]});
    };
    let (path, words) = refusal(|pillar| both(pillar, "db1"));
    assert_eq!(path, "migrate:freeze:crons:1");
    assert!(words.contains("/etc/cron.d/dumps") && words.contains("no singleton holds"), "{words}");
    // The freeze holds crons of the databases' hosts alone.
    let mut right = pillar();
    both(&mut right, "app1");
    assert!(Settings::read(&right).is_ok());
}

#[test]
fn a_rehearsal_opens_nothing_that_the_move_rests_on() {
    let on = |pillar: &mut Value, node: &str| pillar["rehearsal"] = json!({"replica": node});
    for (node, words) in [("db1", "neither the new primary nor the relay"), ("db9", "a node of migrate:nodes:new")] {
        let (path, said) = refusal(|pillar| on(pillar, node));
        assert_eq!(path, "migrate:rehearsal:replica");
        assert!(said.contains(words), "{said}");
    }
    let mut right = pillar();
    right["nodes"]["new"]["db3"] = json!({"private": "10.80.0.13"});
    on(&mut right, "db3");
    assert!(Settings::read(&right).is_ok());
    right["databases"]["new"]["relay"] = json!("db3");
    assert!(Settings::read(&right).is_err());
}

fn with_cloud() -> Value {
    let mut pillar = pillar();
    pillar["clouds"] = json!({"new": {"auth": {
        "auth_url": "https://identity:5000/v3", "username": "migrate", "password": "hunter2", "project_name": "site",
    }}});
    pillar["prepare"] = json!({
        "network": "net", "image": "debian-12", "servers": {"db1": {"vcpus": 4, "ram": 8192, "disk": 80}},
        "security_groups": {"db": {"rules": [{"protocol": "tcp", "ports": "3306-3307", "from": "db"}]}},
    });
    pillar
}

fn cloud_refusal(change: impl FnOnce(&mut Value)) -> (String, String) {
    let mut changed = with_cloud();
    change(&mut changed);
    refusal(|pillar| *pillar = changed)
}

#[test]
fn a_cloud_and_what_it_shall_have_are_read_and_its_secrets_are_not_told() {
    let settings = Settings::read(&with_cloud()).unwrap();
    assert!(!format!("{settings:?}").contains("hunter2"));
    let prepare = settings.prepare.unwrap();
    assert_eq!((prepare.at_once, prepare.allow_smaller, prepare.deadlines.tick), (8, 0, 1_000));
    assert_eq!(prepare.security_groups["db"].rules[0].ports.as_ref().unwrap().range(), Some((3306, 3307)));
    let mut credential = with_cloud();
    credential["clouds"]["new"]["auth"] = json!({"auth_url": "https://identity:5000/v3",
        "application_credential_id": "id", "application_credential_secret": "hunter2"});
    let hash = Settings::read(&credential).unwrap().hash;
    credential["clouds"]["new"]["auth"]["application_credential_secret"] = json!("rotated");
    assert_eq!(Settings::read(&credential).unwrap().hash, hash);
}

#[test]
fn two_masters_are_addresses_and_one_of_them_is_the_new_node() {
    let with = |masters: Value| {
        let mut pillar = pillar();
        pillar["prepare"] = json!({"masters": masters, "deployment": {
            "old": "app1", "new": "app1", "paths": ["/srv/code"], "exclude": [], "master": {}}});
        pillar
    };
    for masters in [json!([]), json!(["10.80.0.21"]), json!(["10.80.0.5", "10.70.0.21"]), json!(["10.80.0.21", "old"])]
    {
        let (path, words) = refusal(|pillar| *pillar = with(masters));
        assert_eq!(path, "migrate:prepare:masters");
        assert!(words.contains("the addresses of both masters"), "{words}");
    }
    let settings = Settings::read(&with(json!(["10.70.0.21", "10.80.0.21"]))).unwrap();
    let deployment = settings.prepare.as_ref().unwrap().deployment.as_ref().unwrap();
    assert_eq!(deployment.obeyed(&settings).unwrap(), "10.80.0.21");
}

#[test]
fn uploads_have_a_node_on_each_side_whole_paths_and_a_port_of_their_own() {
    let with = |change: fn(&mut Value)| {
        refusal(move |pillar| {
            pillar["uploads"] = json!({"wiki": {"old": "app1", "new": "app1", "paths": ["/srv/images"]}});
            change(&mut pillar["uploads"]);
        })
    };
    for (change, path, words) in [
        ((|all| all["wiki"]["new"] = json!("nobody")) as fn(&mut Value), "wiki:new", "a node of migrate:nodes:new"),
        (|all| all["wiki"]["paths"] = json!([]), "wiki:paths", "people's files"),
        (|all| all["wiki"]["paths"] = json!(["/srv/images/"]), "wiki:paths", "a whole path"),
        (|all| all["wiki"]["paths"] = json!(["/srv/../etc"]), "wiki:paths", "a whole path"),
        (|all| all["wiki"]["exclude"] = json!(["thumb/"]), "wiki:exclude", "a name without /"),
        (|all| all["wiki"]["exclude"] = json!(["archive/thumb"]), "wiki:exclude", "a name without /"),
        (|all| all["wiki"]["exclude"] = json!(["/srv/images/*.tmp"]), "wiki:exclude", "a name without /"),
        (|all| all["a b"] = all["wiki"].clone(), "a b", "letters, digits"),
        (|all| all["z"] = all["wiki"].clone(), "z:port", "another port than that of wiki"),
    ] {
        let (at, said) = with(change);
        assert_eq!(at, format!("migrate:uploads:{path}"));
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn what_is_left_alone_is_named_as_each_side_has_it() {
    let mut pillar = pillar();
    pillar["uploads"] = json!({"wiki": {"old": "app1", "new": "app1",
        "paths": [{"old": "/srv/wiki", "new": "/srv/n"}, "/srv/wiki-files"],
        "exclude": ["*.tmp", "/srv/wiki/thumb", "/srv/wiki-files/thumb"]}});
    let settings = Settings::read(&pillar).unwrap();
    let excluded = settings.uploads["wiki"].carried().excluded(Side::New);
    assert_eq!(excluded, ["*.tmp", "/srv/n/thumb", "/srv/wiki-files/thumb"]);
}

#[test]
fn half_a_login_is_refused() {
    for (key, value) in [("username", Value::Null), ("password", Value::Null), ("project_name", Value::Null)] {
        let (path, _) = cloud_refusal(|pillar| pillar["clouds"]["new"]["auth"][key] = value);
        assert_eq!(path, "migrate:clouds:new:auth");
    }
    let (path, words) = cloud_refusal(|pillar| pillar["clouds"]["new"]["cloud"] = json!("entry"));
    assert_eq!(path, "migrate:clouds:new");
    assert!(words.contains("one of them"), "{words}");
    let (path, _) = cloud_refusal(|pillar| pillar["clouds"]["new"]["interface"] = json!("private"));
    assert_eq!(path, "migrate:clouds:new:interface");
    let (path, _) = cloud_refusal(|pillar| pillar["clouds"] = json!({}));
    assert_eq!(path, "migrate:clouds:new");
}

#[test]
fn a_cloud_alone_is_read_with_the_same_paths() {
    let alone = json!({"clouds": {"new": {"auth": {"auth_url": "x", "user": "y"}}}});
    assert!(
        matches!(Clouds::read(&alone), Err(Error::Settings { path, .. }) if path == "migrate:clouds:new:auth:user")
    );
    assert!(matches!(Clouds::read(&json!({})), Err(Error::Settings { path, .. }) if path == "migrate:clouds"));
    assert!(Clouds::read(&json!({"clouds": {"old": {"cloud": "entry"}}})).is_ok());
}

#[test]
fn servers_that_cannot_be_are_refused() {
    let servers = |pillar: &mut Value, server: Value| pillar["prepare"]["servers"] = server;
    let (path, _) = cloud_refusal(|pillar| servers(pillar, json!({"db9": {"vcpus": 1, "ram": 1}})));
    assert_eq!(path, "migrate:prepare:servers:db9");
    let (path, _) = cloud_refusal(|pillar| servers(pillar, json!({"db1": {"vcpus": 0, "ram": 1}})));
    assert_eq!(path, "migrate:prepare:servers:db1");
    let (path, _) = cloud_refusal(|pillar| pillar["prepare"]["image"] = Value::Null);
    assert_eq!(path, "migrate:prepare:servers:db1:image");
    let (path, _) = cloud_refusal(|pillar| pillar["prepare"]["at_once"] = json!(0));
    assert_eq!(path, "migrate:prepare:at_once");
    let (path, _) = cloud_refusal(|pillar| pillar["prepare"]["allow_smaller"] = json!(90));
    assert_eq!(path, "migrate:prepare:allow_smaller");
    let (path, _) = cloud_refusal(|pillar| pillar["prepare"]["site"] = json!("two words"));
    assert_eq!(path, "migrate:prepare:site");
    let (path, _) = cloud_refusal(|pillar| pillar["prepare"]["apart"] = json!({"a": ["db2"]}));
    assert_eq!(path, "migrate:prepare:apart:a");
    let (path, words) = cloud_refusal(|pillar| pillar["prepare"]["apart"] = json!({"a": ["db1"], "b": ["db1"]}));
    assert_eq!(path, "migrate:prepare:apart:b");
    assert!(words.contains("in a already"), "{words}");
}

#[test]
fn rules_that_let_nobody_in_are_refused() {
    for (rule, key) in [
        (json!({"protocol": "tcp", "ports": "90-80", "from": "0.0.0.0/0"}), "ports"),
        (json!({"protocol": "tcp", "ports": "http", "from": "0.0.0.0/0"}), "ports"),
        (json!({"ports": 80, "from": "0.0.0.0/0"}), "protocol"),
        (json!({"protocol": "icmp", "ports": 80, "from": "0.0.0.0/0"}), "protocol"),
        (json!({"from": "everybody"}), "from"),
        (json!({"from": "10.0.0.0/33"}), "from"),
    ] {
        let (path, _) = cloud_refusal(|pillar| pillar["prepare"]["security_groups"]["db"]["rules"] = json!([rule]));
        assert_eq!(path, format!("migrate:prepare:security_groups:db:rules:0:{key}"));
    }
}

#[test]
fn a_new_server_is_of_the_family_that_the_pillar_names() {
    let with = |seeding: Value| {
        let mut pillar = pillar();
        pillar["prepare"] = json!({"databases": seeding});
        Settings::read(&pillar).unwrap()
    };
    let seeding = |settings: &Settings| settings.prepare.as_ref().unwrap().databases.clone().unwrap();
    let (maria, my) = (with(json!({})), with(json!({"family": "mysql", "stop": "halt"})));
    assert_eq!((maria.family(), my.family()), (Family::MariaDb, Family::MySql));
    assert_eq!(seeding(&maria).start(), "systemctl start mariadb.service");
    assert_eq!(
        (seeding(&my).start().as_str(), seeding(&my).stop().as_str()),
        ("systemctl start mysql.service", "halt")
    );
    assert!(seeding(&maria).packages().contains(&"mariadb-backup".to_owned()));
    assert_eq!(seeding(&my).packages(), ["mysql-server", "socat", "openssl"]);
}

#[test]
fn a_copy_has_a_plain_folder() {
    for folder in ["clones", "/srv/it's"] {
        let (path, _) = refusal(|pillar| pillar["prepare"] = json!({"databases": {"clone_folder": folder}}));
        assert_eq!(path, "migrate:prepare:databases:clone_folder");
    }
}
