//! An address or a name in a text, and how another one is written in its place.
//!
//! Invariant: another address is written in the same script, or not at all.

use ipnet::IpNet;
use serde::Serialize;
use std::net::IpAddr;

/// How a token is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    Dotted,
    Port,
    Cidr,
    Range,
    Prefix,
    Wildcard,
    Regex,
    Ptr,
    Zone,
    Ipv6,
    Base64,
    Name,
    Domain,
}

/// What a token means.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    Address(IpAddr),
    Net(IpNet),
    /// The beginning of addresses; strict where the rest of them is written elsewhere.
    Octets {
        net: IpNet,
        strict: bool,
    },
    Span(IpAddr, IpAddr),
    Name(String),
    Domain(String),
}

/// In which script its address is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Script {
    Joined(&'static str),
    Reversed,
    Text,
}

/// An address or a name in a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    pub start: usize,
    pub end: usize,
    /// The part that a replacement replaces.
    pub span: (usize, usize),
    pub form: Form,
    pub what: What,
    pub port: Option<u16>,
    pub(super) script: Script,
    /// How many octets or nibbles are written.
    pub(super) parts: usize,
}

impl Token {
    /// Writes another address in the token's own script; nothing where that cannot be.
    pub fn write(&self, new: IpAddr) -> Option<String> {
        match (new, self.script, &self.what) {
            (
                IpAddr::V4(new),
                Script::Joined(by),
                What::Address(IpAddr::V4(_)) | What::Net(IpNet::V4(_)) | What::Octets { .. },
            ) => Some(join(new.octets().iter().take(self.parts), by)),
            (
                IpAddr::V4(new),
                Script::Reversed,
                What::Address(IpAddr::V4(_)) | What::Octets { net: IpNet::V4(_), .. },
            ) => Some(join(new.octets().iter().take(self.parts).rev(), ".")),
            (IpAddr::V6(new), Script::Text, What::Address(IpAddr::V6(_)) | What::Net(IpNet::V6(_))) => {
                Some(new.to_string())
            }
            (
                IpAddr::V6(new),
                Script::Reversed,
                What::Address(IpAddr::V6(_)) | What::Octets { net: IpNet::V6(_), .. },
            ) => {
                let nibbles: Vec<String> = new
                    .octets()
                    .iter()
                    .flat_map(|o| [o >> 4, o & 15])
                    .take(self.parts)
                    .map(|n| format!("{n:x}"))
                    .collect();
                Some(nibbles.into_iter().rev().collect::<Vec<_>>().join("."))
            }
            _ => None,
        }
    }
}

fn join<'a>(octets: impl Iterator<Item = &'a u8>, by: &str) -> String {
    octets.map(u8::to_string).collect::<Vec<_>>().join(by)
}

/// Reads up to `digits` digits, and refuses more.
pub(super) fn number(text: &[u8], at: usize, digits: usize) -> Option<(u32, usize)> {
    let end = at + text.get(at..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if end == at || end - at > digits {
        return None;
    }
    std::str::from_utf8(&text[at..end]).ok()?.parse().ok().map(|value| (value, end))
}
