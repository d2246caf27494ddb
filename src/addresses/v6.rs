//! IPv6 in a text, in any spelling.
//!
//! Invariant: as with IPv4, a token is taken whole or not at all.

use super::token::{Form, Script, Token, What, number};
use ipnet::IpNet;
use std::net::Ipv6Addr;

/// Reads an IPv6 token whose first group begins at `start`.
pub fn read(text: &[u8], start: usize) -> Option<Token> {
    let before = |back: usize| start.checked_sub(back).map_or(b' ', |index| text[index]);
    if before(1).is_ascii_alphanumeric()
        || matches!(before(1), b'_' | b'.')
        || (before(1) == b':' && before(2).is_ascii_hexdigit())
    {
        return None;
    }
    let run = text[start..].iter().take_while(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.')).count();
    let mut end = start + run;
    let at = |index: usize| text.get(index).copied().unwrap_or(b' ');
    if matches!(at(end), b'%' | b'*') && at(end - 1) == b':' && at(end - 2) != b':' {
        return groups(text, start, end);
    }
    while end > start && (at(end - 1) == b'.' || (at(end - 1) == b':' && at(end - 2) != b':')) {
        end -= 1;
    }
    if at(end).is_ascii_alphanumeric() || at(end) == b'_' {
        return None;
    }
    let address: Ipv6Addr = std::str::from_utf8(&text[start..end]).ok()?.parse().ok()?;
    let token = |end, stop, what, port| Token {
        start,
        end: stop,
        span: (start, end),
        form: Form::Ipv6,
        what,
        port,
        script: Script::Text,
        parts: 32,
    };
    if at(end) == b'/'
        && let Some((length, stop)) = number(text, end + 1, 3)
        && length <= 128
        && !at(stop).is_ascii_alphanumeric()
    {
        let net = IpNet::new(address.into(), u8::try_from(length).ok()?).ok()?;
        let what =
            if net.addr() == net.network() && length < 128 { What::Net(net) } else { What::Address(address.into()) };
        return Some(token(end, stop, what, None));
    }
    let port = (at(end) == b']' && at(end + 1) == b':').then(|| number(text, end + 2, 5)).flatten();
    let port = port.and_then(|(port, _)| u16::try_from(port).ok());
    Some(token(end, end, What::Address(address.into()), port))
}

/// Reads `2001:db8:70:%`: the beginning of IPv6 addresses.
fn groups(text: &[u8], start: usize, end: usize) -> Option<Token> {
    let written = std::str::from_utf8(&text[start..end - 1]).ok()?;
    let count = written.split(':').count();
    let address: Ipv6Addr = format!("{written}::").parse().ok()?;
    let net = IpNet::new(address.into(), u8::try_from(count * 16).ok()?).ok()?;
    let what = What::Octets { net, strict: false };
    Some(Token {
        start,
        end: end + 1,
        span: (start, end),
        form: Form::Ipv6,
        what,
        port: None,
        script: Script::Text,
        parts: 32,
    })
}
