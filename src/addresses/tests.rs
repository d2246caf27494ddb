//! The corners of reading and judging that a corpus does not spell out.

use super::comment::Comments;
use super::edit::{Edit, apply};
use super::token::What;
use super::{blob, mask, own, v4, v6};

fn read(text: &str) -> Option<String> {
    let start = text.find("10.").or_else(|| text.find("10\\."))?;
    v4::read(text.as_bytes(), start).map(|token| text[token.start..token.end].to_owned())
}

#[test]
fn a_token_is_taken_whole_or_not_at_all() {
    for (text, token) in [
        ("10.4.0.1", Some("10.4.0.1")),
        ("10.4.0.1.", Some("10.4.0.1")),
        ("10.4.0.1:80", Some("10.4.0.1:80")),
        ("10.4.0.1:99999", Some("10.4.0.1")),
        ("-h10.4.0.1", Some("10.4.0.1")),
        ("10.4.0.1-20", Some("10.4.0.1-20")),
        ("10.4.0.20-1", None),
        ("10.4.0.1-1ubuntu2", None),
        ("10.4.0.1/24/x", Some("10.4.0.1")),
        ("10.4.0.0/24", Some("10.4.0.0/24")),
        ("10.4.0.1.2", None),
        ("1.10.4.0.1", None),
        ("10.4.0.256", None),
        ("10.4.00.1", None),
        ("10.4", None),
        ("10.4.", None),
        ("10.4.%", Some("10.4.%")),
        ("10.4.%.%", Some("10.4.%.%")),
        ("10.", None),
        ("v10.4.0.1", None),
        ("version: 10.4.0.1", None),
        ("server: 10.4.0.1", Some("10.4.0.1")),
        (r"10\.4\.0\.1", Some(r"10\.4\.0\.1")),
        (r"10\.4\.", Some(r"10\.4\.")),
    ] {
        assert_eq!(read(text).as_deref(), token, "{text}");
    }
}

#[test]
fn six_is_read_in_any_spelling() {
    for text in ["fd00:4::1", "fd00:4:0:0:0:0:0:1", "fd00:0004::0001"] {
        let token = v6::read(text.as_bytes(), 0).unwrap();
        assert_eq!(token.what, What::Address("fd00:4::1".parse().unwrap()), "{text}");
    }
    assert!(v6::read(b"fd00:4::1x", 0).is_none());
    assert!(v6::read(b"afd00:4::1", 1).is_none());
}

#[test]
fn the_own_pillar_is_known_by_its_keys_and_ends_where_they_do() {
    for (text, own) in [
        ("migrate:\n  nodes:\n    old: {}\n", Some("migrate:\n  nodes:\n    old: {}\n")),
        (
            "{% set a = 1 %}\nmigrate: # ours\n\n# x\n    addresses: {}\nsite: 1\n",
            Some("migrate: # ours\n\n# x\n    addresses: {}\n"),
        ),
        ("site:\n  nodes: 1\nmigrate:\n  notice: {}\n  nodes: {}\n", Some("migrate:\n  notice: {}\n  nodes: {}\n")),
        ("migrate:\n  notice:\n    nodes: {}\n", None),
        ("migrate:\n  notice: {}\nsite:\n  nodes: 1\n", None),
        ("site:\n  migrate:\n    nodes: 1\n", None),
        ("nodes: 1\nmigrated:\n  nodes: 1\n", None),
        (
            "#!json\n{\"migrate\": {\"nodes\": {\"old\": {}, \"new\": {}}}}",
            Some("#!json\n{\"migrate\": {\"nodes\": {\"old\": {}, \"new\": {}}}}"),
        ),
        ("{\"nodes\": {\"old\": {}, \"new\": {}}}", Some("{\"nodes\": {\"old\": {}, \"new\": {}}}")),
        ("{\"nodes\": {\"old\": {}}}", None),
    ] {
        assert_eq!(own::pillar(text.as_bytes()).map(|range| &text[range]), own, "{text}");
    }
}

#[test]
fn quotes_and_urls_open_no_comment() {
    let holds = |path: &str, text: &str| {
        let at = text.find('!').unwrap();
        Comments::of(path, text.as_bytes()).hold(text.as_bytes(), at)
    };
    for (path, text, comment) in [
        ("a.php", "// !", true),
        ("a.php", "$a = 'http://!';", false),
        ("a.php", "$a = \"\\\"// !\";", false),
        ("a.php", "/* a\n ! */", true),
        ("a.php", "/* a */ !", false),
        ("a.php", "// /*\n!", false),
        ("a.sls", "a: b # !", true),
        ("a.sls", "a: b#!", false),
        ("a.sls", "a: 'it' # don't !", true),
        ("a.sls", "{# a\n! #}", true),
        ("a.zone", "a IN A 1 ; !", true),
        ("a.json", "{\"a\": \"# !\"}", false),
        ("a.conf.jinja", "# !", true),
        ("unknown", "# !", true),
        ("unknown", "a # !", false),
    ] {
        assert_eq!(holds(path, text), comment, "{path}: {text}");
    }
}

#[test]
fn edits_never_see_each_other() {
    let edit = |start, old: &str, new: &str| Edit { start, old: old.into(), new: new.into(), reference: None };
    let edits = [edit(2, "b", "a"), edit(0, "a", "bb")];
    let change = apply(b"a b", &edits).unwrap();
    assert_eq!(change.bytes, b"bb a");
    assert_eq!(apply(&change.bytes, &change.back).unwrap().bytes, b"a b");
    assert!(apply(b"x b", &edits).is_none(), "a text that changed is not edited");
    assert!(apply(b"abc", &[edit(0, "ab", "x"), edit(1, "b", "y")]).is_none(), "nor one where edits overlap");
}

#[test]
fn what_looks_like_a_password_is_hidden_and_an_address_is_not() {
    for (text, shown) in [
        ("url = mysql://u:secret1@10.4.0.1/x", "url = mysql://u:***@10.4.0.1/x"),
        ("password: hunter2", "password: ***"),
        ("$wgDBpassword = 'hunter2';", "$wgDBpassword = '***';"),
        ("password=10.4.0.1", "password=10.4.0.1"),
        ("host: 10.4.0.1", "host: 10.4.0.1"),
        ("http://10.4.0.1:80/a@b", "http://10.4.0.1:80/a@b"),
    ] {
        assert_eq!(mask::line(text), shown);
    }
    assert!(mask::line(&"x".repeat(1000)).len() < 300);
}

#[test]
fn a_blob_is_found_at_any_alignment_and_written_as_it_stood() {
    use base64::Engine;
    for skew in 0..3 {
        let plain = format!("{}server 10.4.0.1 and more", "x".repeat(skew));
        let text = format!("a: {}\n", base64::engine::general_purpose::STANDARD.encode(&plain));
        let shape = blob::shapes("10.4.").into_iter().find_map(|shape| text.find(&shape)).unwrap();
        let blob = blob::around(text.as_bytes(), shape).unwrap();
        assert_eq!(blob.bytes, plain.as_bytes());
        assert_eq!(blob.write(&blob.bytes), text[blob.range.clone()]);
    }
}
