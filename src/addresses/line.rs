//! What the line around a token says about it.
//!
//! Invariant: it looks at one line only, in the words of the configuration languages themselves.

use memchr::{memchr, memrchr};

/// The bounds of the line around a place.
pub fn bounds(text: &[u8], at: usize) -> (usize, usize) {
    let start = memrchr(b'\n', &text[..at]).map_or(0, |index| index + 1);
    let end = memchr(b'\n', &text[at..]).map_or(text.len(), |index| at + index);
    (start, end)
}

/// The word of letters that ends at a place.
pub fn word_before(text: &[u8], end: usize) -> &[u8] {
    let letters = text[..end].iter().rev().take_while(|byte| byte.is_ascii_alphabetic()).take(32).count();
    &text[end - letters..end]
}

fn lower(text: &[u8], at: usize) -> String {
    let (start, end) = bounds(text, at);
    // A minified file is one line; what speaks about a token stands near it.
    let (start, end) = (start.max(at.saturating_sub(256)), end.min(at + 256));
    String::from_utf8_lossy(&text[start..end]).to_ascii_lowercase()
}

fn holds_any(line: &str, words: &[&str]) -> bool {
    words.iter().any(|word| line.contains(word))
}

/// Whether the line is one of an access list, where `10.4.` stands for all that begins so.
pub fn is_access_list(text: &[u8], at: usize) -> bool {
    let line = lower(text, at);
    let words = ["allow", "deny", "require ip", "trust", "subnet", "prefix", "permit", "mynetworks"];
    let wrapped = ["all:", "sshd:", "in.", "portmap:", "rpcbind:", "mountd:"];
    holds_any(&line, &words) || wrapped.iter().any(|word| line.trim_start().starts_with(word))
}

/// Whether the line grants or refuses by the bare beginning of an address, as web servers' do.
pub fn is_access_list_by_words(text: &[u8], at: usize) -> bool {
    holds_any(&lower(text, at), &["allow from ", "deny from ", "require ip ", "require not ip "])
}

/// Whether the line compares a quoted text with the beginning of an address, and not with a version.
pub fn compares_prefix(text: &[u8], at: usize) -> bool {
    let line = lower(text, at);
    let words = [
        "truncate",
        "prefix",
        "startswith",
        "starts_with",
        "substr",
        "strpos",
        "strncmp",
        "subnet",
        "network",
        "match",
        "[:",
        "ip_",
        "allow",
        "deny",
        "trust",
        "addr",
    ];
    holds_any(&line, &words) && !holds_any(&line, &["version", "release", "ubuntu", "debian", "osmajor"])
}

/// Whether the line declares or sends people to the name they use: it must stay.
pub fn is_public(text: &[u8], at: usize) -> bool {
    let line = lower(text, at);
    let begun = line.trim_start_matches([' ', '\t', '\'', '"', '-', '$', '{', '<']);
    let directives = [
        "servername",
        "serveralias",
        "server_name",
        "redirect",
        "wgserver",
        "wgcanonicalserver",
        "rewriterule",
        "rewritecond",
        "canonical",
        "set obj.http.location",
        "set resp.http.location",
        "header(\"location",
        "header('location",
        "location:",
    ];
    directives.iter().any(|word| begun.starts_with(word))
        || holds_any(
            &line,
            &[
                "return 301",
                "return 302",
                "return 307",
                "return 308",
                "req.http.host ==",
                "req.http.host ~",
                "error 301",
                "error 302",
            ],
        )
}

/// Whether a domain is that of a mail address, and not of an account at hosts.
pub fn is_mail(text: &[u8], start: usize) -> bool {
    let before = |back: usize| start.checked_sub(back).map_or(b' ', |index| text[index]);
    before(1) == b'@' && before(2).is_ascii_alphanumeric()
}

/// Whether the token is whom an orchestration is meant for: a key of a top file, a `tgt`, a command's target.
pub fn is_target(text: &[u8], start: usize, end: usize, path: &str, commands: &[String]) -> bool {
    let (from, to) = bounds(text, start);
    let before = String::from_utf8_lossy(&text[from.max(start.saturating_sub(256))..start]).to_ascii_lowercase();
    let after = String::from_utf8_lossy(&text[end..to.min(end + 64)]);
    let file = path.rsplit('/').next().unwrap_or(path);
    let compound = ["s@", "l@", "e@", "s@^", "e@^"].iter().any(|word| before.ends_with(word));
    let key = after.trim_start_matches(['\'', '"']).trim_start().starts_with(':');
    let top = file == "top.sls" && (key || before.contains('@'));
    let bare = before.trim_end_matches([' ', '\'', '"', '[', ',']);
    let told = ["tgt:", "tgt=", "target:", "target=", "minion:", "minion_id:", "minion=", "\nid:", "minions/"];
    let told = told.iter().any(|word| bare.ends_with(word)) || bare.trim_start() == "id:";
    let asked = ["grains['id']", "grains.id", "grains[\"id\"]", "opts['id']", "opts.id", "grains.get('id')"];
    let command = before.split_whitespace().any(|word| {
        let word = word.rsplit('/').next().unwrap_or(word);
        commands.iter().any(|command| command == word)
    });
    let first = before.split_whitespace().filter(|word| !word.starts_with('-')).count();
    compound || top || told || file == "minion_id" || holds_any(&before, &asked) || (command && first <= 3)
}

/// Whether a short name stands where a host is named, and not as a word.
pub fn names_host(text: &[u8], start: usize, end: usize) -> bool {
    let (from, to) = bounds(text, start);
    let before = &text[from..start];
    let after = &text[end..to];
    let next = after.first().copied().unwrap_or(b' ');
    if next == b':' && after.get(1).is_some_and(u8::is_ascii_digit) {
        return true;
    }
    if before.ends_with(b"@") || before.ends_with(b"://") || before.ends_with(b"-h ") || before.ends_with(b"-h") {
        return true;
    }
    let quote = before.last().copied().filter(|byte| matches!(byte, b'"' | b'\''));
    if quote.is_some() && quote == Some(next) {
        let rest = String::from_utf8_lossy(&after[1..]).trim_start().to_owned();
        return !rest.starts_with(':') && !rest.starts_with("=>");
    }
    // A line of a hosts file: an address, then names.
    let words: Vec<&[u8]> = before.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
    if words
        .first()
        .is_some_and(|word| std::str::from_utf8(word).is_ok_and(|word| word.parse::<std::net::IpAddr>().is_ok()))
    {
        return true;
    }
    let key = String::from_utf8_lossy(before).to_ascii_lowercase();
    let key = key.trim_end_matches([' ', '\t', '=', ':', '\'', '"', '>', '(', ',']);
    let assigned = before.iter().rev().take_while(|byte| !byte.is_ascii_alphanumeric()).count() > 0;
    let hosts = [
        "host",
        "hostname",
        "server",
        "master",
        "source",
        "backend",
        "upstream",
        "address",
        "addr",
        "node",
        "nameserver",
        "remote",
    ];
    assigned && hosts.iter().any(|word| key.ends_with(word))
}
