//! IPv4 in a text, from the first octet to the whole token: an address, a network, a range, the beginning of addresses.
//!
//! Invariant: a token is taken whole or not at all: 10.10.10.18 is not in 10.10.10.180, and what reads as a version, an
//! OID or a decimal is none.

use super::line;
use super::token::{Form, Script, Token, What, number};
use ipnet::IpNet;
use std::net::Ipv4Addr;

const SEPARATORS: [&str; 4] = [".", "\\.", "\\\\.", "[.]"];

/// Reads an IPv4 token whose first octet begins at `start`.
pub fn read(text: &[u8], start: usize) -> Option<Token> {
    if !may_begin(text, start) || is_version(text, start) {
        return None;
    }
    let (first, mut end) = octet(text, start)?;
    let by = SEPARATORS.into_iter().find(|by| text[end..].starts_with(by.as_bytes()))?;
    let mut octets = vec![first];
    while octets.len() < 4 && text[end..].starts_with(by.as_bytes()) {
        let Some((next, after)) = octet(text, end + by.len()) else { break };
        octets.push(next);
        end = after;
    }
    let escaped = by != ".";
    let token = |end, span, form, what, port| Token {
        start,
        end,
        span: (start, span),
        form,
        what,
        port,
        script: Script::Joined(by),
        parts: octets.len(),
    };
    if octets.len() < 4 {
        return prefix(text, start, end, &octets, by)
            .map(|(end, form, what)| token(end, prefix_end(text, start, octets.len(), by), form, what, None));
    }
    let address = Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]);
    let plain = if escaped { Form::Regex } else { Form::Dotted };
    let whole = What::Address(address.into());
    let at = |index: usize| text.get(index).copied().unwrap_or(b' ');
    match at(end) {
        b if b.is_ascii_alphanumeric() => None,
        b'.' if at(end + 1).is_ascii_alphanumeric() => None,
        b'\\' if escaped && at(end + 1) == b'.' && at(end + 2).is_ascii_digit() => None,
        // MySQL's wildcard for one character.
        b'_' if !escaped && matches!(at(end + 1), b'\'' | b'"' | b'`') && octets[3] > 0 && octets[3] < 26 => {
            let last = octets[3] * 10;
            let of = |last| Ipv4Addr::new(octets[0], octets[1], octets[2], last).into();
            let what = What::Span(of(last), of(last.saturating_add(9)));
            Some(token(end + 1, end + 1, Form::Wildcard, what, None))
        }
        b'/' => match mask(text, end + 1) {
            Some((length, after)) => {
                let net = IpNet::new(address.into(), length).ok()?;
                let what = if net.addr() == net.network() && length < 32 { What::Net(net) } else { whole };
                Some(token(after, end, Form::Cidr, what, None))
            }
            None => Some(token(end, end, plain, whole, None)),
        },
        b':' if at(end + 1).is_ascii_digit() => match number(text, end + 1, 5) {
            Some((port, after)) if port <= 65_535 && !at(after).is_ascii_alphanumeric() => {
                Some(token(after, end, Form::Port, whole, u16::try_from(port).ok()))
            }
            _ => Some(token(end, end, plain, whole, None)),
        },
        _ => {
            if let Some((length, after)) = written_mask(text, end) {
                let net = IpNet::new(address.into(), length).ok()?;
                if net.addr() == net.network() {
                    return Some(token(after, end, Form::Cidr, What::Net(net), None));
                }
            }
            match span(text, end, address) {
                Tail::Range(last, after) => {
                    Some(token(after, after, Form::Range, What::Span(address.into(), last.into()), None))
                }
                Tail::Version => None,
                Tail::Other => Some(token(end, end, plain, whole, None)),
            }
        }
    }
}

/// Whether an address may begin here, by what stands before it.
fn may_begin(text: &[u8], start: usize) -> bool {
    let before = |back: usize| start.checked_sub(back).map_or(b' ', |index| text[index]);
    match before(1) {
        b'0'..=b'9' => false,
        b'.' => !before(2).is_ascii_alphanumeric() && before(2) != b']',
        // An escape such as \n, or a short option such as -h10.0.0.1.
        letter if letter.is_ascii_alphabetic() => {
            (before(2) == b'\\' && matches!(letter, b'n' | b't' | b'r'))
                || (before(2) == b'-' && !before(3).is_ascii_alphanumeric())
        }
        b'-' => {
            let word = line::word_before(text, start - 1);
            !before(2).is_ascii_alphanumeric() || word.eq_ignore_ascii_case(b"ip") || word.eq_ignore_ascii_case(b"host")
        }
        _ => true,
    }
}

/// Whether what stands before says that four numbers are a version: `version: 10.4.0.1`, `Chrome/10.4.0.1`.
fn is_version(text: &[u8], start: usize) -> bool {
    if start > 0 && text[start - 1] == b'/' {
        let word = line::word_before(text, start - 1);
        let product = word.first().is_some_and(u8::is_ascii_uppercase) && word.iter().any(u8::is_ascii_lowercase);
        return product && !text[..start - 1 - word.len()].ends_with(b"/");
    }
    let mut end = start;
    while end > 0 && matches!(text[end - 1], b' ' | b'\t' | b':' | b'=' | b'"' | b'\'' | b'(' | b'>' | b'<' | b'~') {
        end -= 1;
    }
    let word = line::word_before(text, end).to_ascii_lowercase();
    word.ends_with(b"version") || matches!(word.as_slice(), b"versions" | b"ver" | b"revision")
}

fn octet(text: &[u8], at: usize) -> Option<(u8, usize)> {
    let (value, end) = number(text, at, 3)?;
    // An octet with a leading zero is octal to some, and no address to others.
    if text[at] == b'0' && end - at > 1 {
        return None;
    }
    Some((u8::try_from(value).ok()?, end))
}

/// Reads the mask after a slash: a length, or a netmask; it must end there.
fn mask(text: &[u8], at: usize) -> Option<(u8, usize)> {
    if let Some((length, end)) = dotted_mask(text, at) {
        return Some((length, end));
    }
    let (length, end) = number(text, at, 2)?;
    let next = text.get(end).copied().unwrap_or(b' ');
    let further = text.get(end + 1).copied().unwrap_or(b' ');
    let goes_on = next.is_ascii_alphanumeric()
        || matches!(next, b'/' | b'_' | b'-')
        || (next == b'.' && further.is_ascii_alphanumeric());
    (length <= 32 && !goes_on).then_some((u8::try_from(length).ok()?, end))
}

fn dotted_mask(text: &[u8], at: usize) -> Option<(u8, usize)> {
    let mut octets = [0; 4];
    let mut end = at;
    for (index, octet_of) in octets.iter_mut().enumerate() {
        if index > 0 {
            end = text[end..].starts_with(b".").then_some(end + 1)?;
        }
        (*octet_of, end) = octet(text, end)?;
    }
    let bits = u32::from(Ipv4Addr::from(octets));
    let length = bits.leading_ones();
    (octets[0] == 255 && bits.count_ones() == length).then_some((u8::try_from(length).ok()?, end))
}

/// Reads `netmask 255.255.0.0` and the like after an address.
fn written_mask(text: &[u8], end: usize) -> Option<(u8, usize)> {
    let mut at = end + text.get(end..)?.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b',')).count();
    for word in [b"netmask ".as_slice(), b"mask "] {
        if text[at..].to_ascii_lowercase_starts(word) {
            at += word.len();
        }
    }
    (at > end).then(|| dotted_mask(text, at)).flatten()
}

trait Lowercase {
    fn to_ascii_lowercase_starts(&self, word: &[u8]) -> bool;
}

impl Lowercase for [u8] {
    fn to_ascii_lowercase_starts(&self, word: &[u8]) -> bool {
        self.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
    }
}

enum Tail {
    Range(Ipv4Addr, usize),
    Version,
    Other,
}

/// Reads what follows an address after a dash: the end of a range, or the revision of a package.
fn span(text: &[u8], end: usize, first: Ipv4Addr) -> Tail {
    let spaces = |at: usize| text.get(at..).map_or(0, |rest| rest.iter().take_while(|byte| **byte == b' ').count());
    let dash = end + spaces(end);
    if text.get(dash) != Some(&b'-') && !text[dash..].starts_with("–".as_bytes()) {
        return Tail::Other;
    }
    let width = if text[dash] == b'-' { 1 } else { "–".len() };
    let at = dash + width + spaces(dash + width);
    let close = dash == end && at == dash + width;
    let Some((value, mut after)) = octet(text, at) else {
        return if close && text.get(at).is_some_and(u8::is_ascii_digit) { Tail::Version } else { Tail::Other };
    };
    let mut octets = vec![value];
    while octets.len() < 4 && text[after..].starts_with(b".") {
        let Some((next, further)) = octet(text, after + 1) else { break };
        octets.push(next);
        after = further;
    }
    let goes_on = text.get(after).is_some_and(|next| next.is_ascii_alphanumeric() || matches!(next, b'+' | b'~'));
    let [a, b, c, d] = first.octets();
    match octets.as_slice() {
        [p, q, r, s] if !goes_on => Tail::Range(Ipv4Addr::new(*p, *q, *r, *s), after),
        [last] if !goes_on && *last > d && close => Tail::Range(Ipv4Addr::new(a, b, c, *last), after),
        _ if close => Tail::Version,
        _ => Tail::Other,
    }
}

/// Where the written octets of a prefix end.
fn prefix_end(text: &[u8], start: usize, octets: usize, by: &str) -> usize {
    let mut end = start;
    for index in 0..octets {
        if index > 0 {
            end += by.len();
        }
        end += text[end..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    }
    end
}

/// Reads fewer than four octets as the beginning of addresses, where what follows says so.
fn prefix(text: &[u8], start: usize, end: usize, octets: &[u8], by: &str) -> Option<(usize, Form, What)> {
    let mut whole = [0; 4];
    whole[..octets.len()].copy_from_slice(octets);
    let length = u8::try_from(octets.len() * 8).ok()?;
    let net = IpNet::new(Ipv4Addr::from(whole).into(), length).ok()?;
    let octets_of = |strict| What::Octets { net, strict };
    let after = end + by.len();
    let at = |index: usize| text.get(index).copied().unwrap_or(b'\n');
    if text[end..].starts_with(by.as_bytes()) {
        let rest = &text[after.min(text.len())..];
        let starts = |words: &[&str]| words.iter().any(|word| rest.starts_with(word.as_bytes()));
        if by != "." {
            let any = starts(&["\\d", "\\\\d", "[0-9]", ".*", ".+", "*", "%"]);
            return (octets.len() > 1).then(|| (after, Form::Regex, octets_of(!any)));
        }
        let printf = starts(&["%d", "%s", "%u", "%i", "%0"]);
        if (starts(&["%", "*"]) && !printf) || (starts(&["x", "X"]) && !at(after + 1).is_ascii_alphanumeric()) {
            let mut stop = after + 1;
            while at(stop) == b'.' && at(stop + 1) == at(after) {
                stop += 2;
            }
            return Some((stop, Form::Wildcard, octets_of(false)));
        }
        if octets.len() < 2 {
            return None;
        }
        let digits = starts(&["\\d", "\\\\d", "[0-9]"]);
        if digits || printf || starts(&["$", "{", "(", "[", "#{", "\"", "'", "`", "<"]) {
            return Some((after, Form::Prefix, octets_of(!digits)));
        }
        let over = matches!(at(after), b' ' | b'\t' | b'\n' | b'\r' | b',' | b';');
        return (over && line::is_access_list(text, start)).then(|| (after, Form::Prefix, octets_of(false)));
    }
    if octets.len() < 2 || at(end).is_ascii_alphanumeric() || matches!(at(end), b'.' | b'_' | b'-') {
        return None;
    }
    if at(end) == b'/' {
        let (bits, stop) = mask(text, end + 1)?;
        return (bits == length).then_some((stop, Form::Cidr, What::Octets { net, strict: false }));
    }
    let quote = start.checked_sub(1).map(|index| text[index]).filter(|byte| matches!(byte, b'"' | b'\'' | b'`'));
    if quote == Some(at(end)) && line::compares_prefix(text, start) {
        return Some((end, Form::Prefix, octets_of(true)));
    }
    line::is_access_list_by_words(text, start).then(|| (end, Form::Prefix, octets_of(false)))
}
