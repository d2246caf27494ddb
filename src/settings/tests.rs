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
