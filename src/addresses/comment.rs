//! Which parts of a file are comments, by the languages that configuration is written in.
//!
//! Invariant: quotes hide what opens a comment, and a URL opens none; where the language is unknown only a line that
//! begins as a comment is one.

use super::line;
use memchr::memmem;
use std::ops::Range;

/// What opens comments in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Language {
    /// Openers up to the end of the line.
    line: &'static [&'static str],
    /// Openers and closers over several lines.
    block: &'static [(&'static str, &'static str)],
    /// Whether a line comment may begin behind other text.
    trailing: bool,
}

const HASH: Language = Language { line: &["#"], block: &[("{#", "#}")], trailing: true };
const INI: Language = Language { line: &["#", ";"], block: &[("{#", "#}")], trailing: true };
const PHP: Language = Language { line: &["#", "//"], block: &[("/*", "*/"), ("{#", "#}")], trailing: true };
const C: Language = Language { line: &["//"], block: &[("/*", "*/"), ("{#", "#}")], trailing: true };
const SQL: Language = Language { line: &["-- ", "#"], block: &[("/*", "*/")], trailing: true };
const ZONE: Language = Language { line: &[";"], block: &[("{#", "#}")], trailing: true };
const MARKUP: Language = Language { line: &[], block: &[("<!--", "-->"), ("{#", "#}")], trailing: false };
const LUA: Language = Language { line: &["--"], block: &[], trailing: true };
const UNKNOWN: Language = Language { line: &["#", ";", "//", "-- "], block: &[("{#", "#}")], trailing: false };
const NONE: Language = Language { line: &[], block: &[], trailing: false };

fn language(path: &str) -> Language {
    let file = path.rsplit('/').next().unwrap_or(path);
    let mut words = file.rsplit('.');
    let mut ending = words.next().unwrap_or_default();
    if matches!(ending, "jinja" | "jinja2" | "j2" | "tmpl" | "tpl" | "erb" | "in" | "dist" | "bak" | "orig") {
        ending = words.next().unwrap_or_default();
    }
    match ending.to_ascii_lowercase().as_str() {
        "yml" | "yaml" | "sls" | "sh" | "bash" | "zsh" | "py" | "rb" | "pl" | "pm" | "conf" | "cfg" | "toml"
        | "service" | "timer" | "mount" | "rules" | "properties" | "env" | "tf" | "pp" | "cron" | "nft" => HASH,
        "ini" | "cnf" => INI,
        "php" | "inc" | "vcl" | "phtml" | "named" | "options" | "local" => PHP,
        "js" | "ts" | "c" | "h" | "cc" | "cpp" | "java" | "go" | "rs" | "css" | "scss" | "less" => C,
        "sql" => SQL,
        "zone" | "rev" | "arpa" | "wpdn" | "db" => ZONE,
        "html" | "htm" | "xml" | "svg" | "md" => MARKUP,
        "lua" => LUA,
        "json" | "csv" | "txt" | "log" => NONE,
        _ if file.starts_with("db.") => ZONE,
        _ if matches!(
            file,
            "hosts"
                | "exports"
                | "fstab"
                | "crontab"
                | "Makefile"
                | "Dockerfile"
                | "resolv.conf"
                | "hosts.allow"
                | "hosts.deny"
        ) =>
        {
            HASH
        }
        _ => UNKNOWN,
    }
}

/// The comments of one text, found once.
pub struct Comments {
    language: Language,
    blocks: Vec<Range<usize>>,
}

impl Comments {
    /// Finds the comments that span lines.
    pub fn of(path: &str, text: &[u8]) -> Self {
        let language = language(path);
        let mut blocks = Vec::new();
        for (open, close) in language.block {
            let mut from = 0;
            while let Some(at) = memmem::find(&text[from..], open.as_bytes()).map(|at| from + at) {
                let end = memmem::find(&text[at + open.len()..], close.as_bytes())
                    .map_or(text.len(), |length| at + open.len() + length + close.len());
                // `//*` and `"/*"` open nothing, nor does what a line comment hides.
                let (start, _) = line::bounds(text, at);
                if hides(&language, &text[start..at]) == Hidden::No {
                    blocks.push(at..end);
                    from = end;
                } else {
                    from = at + open.len();
                }
            }
        }
        blocks.sort_by_key(|block| block.start);
        Self { language, blocks }
    }

    /// Tells whether a place is inside a comment.
    pub fn hold(&self, text: &[u8], at: usize) -> bool {
        let before = &self.blocks[..self.blocks.partition_point(|block| block.start <= at)];
        let last = before.last().map_or(0, |block| block.end);
        if at < last {
            return true;
        }
        let start = line::bounds(text, at).0.max(last);
        hides(&self.language, &text[start..at]) == Hidden::Comment
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hidden {
    No,
    Quote,
    Comment,
}

/// Says whether the end of the beginning of a line is inside a comment, or inside quotes.
fn hides(language: &Language, before: &[u8]) -> Hidden {
    let mut quote: Option<u8> = None;
    let mut index = 0;
    while index < before.len() {
        let byte = before[index];
        if let Some(open) = quote {
            match byte {
                b'\\' if open == b'"' => index += 1,
                _ if byte == open => quote = None,
                _ => {}
            }
            index += 1;
            continue;
        }
        let opens = language.line.iter().find(|word| before[index..].starts_with(word.as_bytes()));
        if let Some(word) = opens {
            let first = before[..index].iter().all(|byte| byte.is_ascii_whitespace());
            let apart = index == 0
                || before[index - 1].is_ascii_whitespace()
                || matches!(before[index - 1], b';' | b'{' | b'}' | b',' | b')');
            if first || (language.trailing && (apart && (*word != ";" || before[index - 1].is_ascii_whitespace()))) {
                return Hidden::Comment;
            }
        }
        // An apostrophe within a word is none: don't, l'app.
        let inside = index > 0 && before[index - 1].is_ascii_alphanumeric();
        if matches!(byte, b'"') || (byte == b'\'' && !inside) {
            quote = Some(byte);
        }
        index += 1;
    }
    if quote.is_some() { Hidden::Quote } else { Hidden::No }
}
