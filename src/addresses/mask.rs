//! Lines of configuration as they may be shown: what stands where passwords stand is hidden.
//!
//! Invariant: when in doubt it hides; an address is never what it hides.

const WORDS: [&str; 11] = [
    "password",
    "passwd",
    "passwort",
    "pwd",
    "secret",
    "token",
    "apikey",
    "api_key",
    "private_key",
    "credential",
    "pass",
];

/// Hides passwords in a line, and cuts a long one.
pub fn line(text: &str) -> String {
    let mut shown = url_logins(text);
    let lower = shown.to_ascii_lowercase();
    for word in WORDS {
        let Some(at) = lower.find(word) else { continue };
        let rest = &shown[at + word.len()..];
        let Some(value) =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || "_-'\" \t=:>,(".contains(c)) || c == '=' || c == ':')
        else {
            continue;
        };
        let value = at + word.len() + value;
        let start = value
            + shown[value..].chars().take_while(|c| "=:>,'\"( \t".contains(*c)).map(char::len_utf8).sum::<usize>();
        let end = start
            + shown[start..].find(|c: char| c.is_whitespace() || "'\",;)&".contains(c)).unwrap_or(shown.len() - start);
        let value = &shown[start..end];
        // An address behind such a word is what is being shown.
        if end > start && !looks_like_address(value) {
            shown.replace_range(start..end, "***");
        }
        break;
    }
    match shown.char_indices().nth(240) {
        Some((cut, _)) => format!("{}…", &shown[..cut]),
        None => shown,
    }
}

/// Hides the password of `scheme://user:password@host`.
fn url_logins(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        let stop = after.find(|c: char| c.is_whitespace() || "/'\"".contains(c)).unwrap_or(after.len());
        match (after[..stop].rfind('@'), after[..stop].find(':')) {
            (Some(at), Some(colon)) if colon < at => {
                shown.push_str(&after[..=colon]);
                shown.push_str("***");
                rest = &after[at..];
            }
            _ => rest = after,
        }
    }
    shown + rest
}

fn looks_like_address(value: &str) -> bool {
    let bare = value.trim_end_matches(|c: char| !c.is_ascii_hexdigit());
    bare.contains(['.', ':']) && bare.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':' | b'/'))
}
