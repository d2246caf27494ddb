//! Host names in a text.
//!
//! Invariant: a name inside a longer one is none.

use super::token::{Form, Script, Token, What, number};

/// Reads the host name around `at`, whole: a name inside a longer one is none.
pub fn read(text: &[u8], at: usize, is_domain: impl Fn(&str) -> bool) -> Option<Token> {
    let fits = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let mut start = at - text[..at].iter().rev().take_while(fits).count();
    let mut end = at + text[at..].iter().take_while(fits).count();
    while end > start && matches!(text[end - 1], b'.' | b'-' | b'_') {
        end -= 1;
    }
    while start < end && matches!(text[start], b'.' | b'-') {
        start += 1;
    }
    // \nhost in a quoted text, as with addresses.
    if start > 0 && text[start - 1] == b'\\' && matches!(text.get(start), Some(b'n' | b't' | b'r')) {
        start += 1;
    }
    let found = std::str::from_utf8(text.get(start..end)?).ok()?.to_ascii_lowercase();
    let wild = start >= 2 && text[start - 1] == b'.' && matches!(text[start - 2], b'%' | b'*');
    let (form, what) = match is_domain(&found) {
        true => (if wild { Form::Wildcard } else { Form::Domain }, What::Domain(found)),
        false => (Form::Name, What::Name(found)),
    };
    let port = (text.get(end) == Some(&b':')).then(|| number(text, end + 1, 5)).flatten();
    let port = port.and_then(|(port, _)| u16::try_from(port).ok());
    Some(Token { start, end, span: (start, end), form, what, port, script: Script::Text, parts: 0 })
}
