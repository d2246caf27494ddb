//! Addresses as reverse zones write them: backwards, whole or in two parts.
//!
//! Invariant: a record is read only under a zone that the same text, or its file's name, began.

use super::token::{Form, Script, Token, What};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr};

/// Reads backwards from `.in-addr.arpa` or `.ip6.arpa`, whose dot stands at `dot`.
pub fn reversed(text: &[u8], dot: usize, ending: usize, six: bool) -> Option<Token> {
    let fits = |byte: &u8| *byte == b'.' || if six { byte.is_ascii_hexdigit() } else { byte.is_ascii_digit() };
    let mut start = dot - text[..dot].iter().rev().take_while(|byte| fits(byte)).count();
    while start < dot && text[start] == b'.' {
        start += 1;
    }
    let before = start.checked_sub(1).map_or(b' ', |index| text[index]);
    // A class-less delegation, 0/25.2.0.192.in-addr.arpa: its first label is none of ours.
    if before == b'/' || before == b'-' {
        start += text[start..dot].iter().position(|byte| *byte == b'.')? + 1;
    } else if before.is_ascii_alphanumeric() || before == b'_' {
        return None;
    }
    let labels: Vec<&str> = std::str::from_utf8(text.get(start..dot)?).ok()?.split('.').collect();
    let token = |what, parts| Token {
        start,
        end: ending,
        span: (start, dot),
        form: Form::Ptr,
        what,
        port: None,
        script: Script::Reversed,
        parts,
    };
    if six {
        let mut bits: u128 = 0;
        for (index, label) in labels.iter().rev().enumerate() {
            let nibble = u128::from_str_radix(label, 16).ok().filter(|_| label.len() == 1 && index < 32)?;
            bits |= nibble << (124 - index * 4);
        }
        let address = IpAddr::from(Ipv6Addr::from(bits));
        if labels.len() == 32 {
            return Some(token(What::Address(address), 32));
        }
        let net = IpNet::new(address, u8::try_from(labels.len() * 4).ok()?).ok()?;
        return Some(token(What::Octets { net, strict: true }, labels.len()));
    }
    let octets: Option<Vec<u8>> = labels.iter().rev().map(|label| label.parse().ok()).collect();
    let octets = octets.filter(|octets| octets.len() <= 4)?;
    let mut whole = [0; 4];
    whole[..octets.len()].copy_from_slice(&octets);
    let address = IpAddr::from(whole);
    if octets.len() == 4 {
        return Some(token(What::Address(address), 4));
    }
    let net = IpNet::new(address, u8::try_from(octets.len() * 8).ok()?).ok()?;
    Some(token(What::Octets { net, strict: true }, octets.len()))
}

/// A record of a reverse zone: its owner is the rest of the address that the zone began.
pub fn in_zone(zone: &IpNet, text: &[u8], start: usize, end: usize) -> Option<Token> {
    let labels: Option<Vec<u8>> =
        std::str::from_utf8(&text[start..end]).ok()?.split('.').rev().map(|label| label.parse().ok()).collect();
    let (labels, IpAddr::V4(begun)) = (labels?, zone.network()) else { return None };
    let known = usize::from(zone.prefix_len() / 8);
    if known + labels.len() != 4 {
        return None;
    }
    let mut octets = begun.octets();
    octets[known..].copy_from_slice(&labels);
    let what = What::Address(IpAddr::from(octets));
    // The zone's own name moves with its prefix; a record alone cannot.
    Some(Token {
        start,
        end,
        span: (start, end),
        form: Form::Zone,
        what,
        port: None,
        script: Script::Text,
        parts: labels.len(),
    })
}
