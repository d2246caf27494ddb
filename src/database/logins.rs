//! Who may log in to a server, from where, and what each may do there.

use super::Server;
use crate::error::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

/// Hosts from which a server's own machine connects.
const ITSELF: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// One account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// Stands for how it shows who it is: plugin, password, lock. A digest, and told to nobody.
    pub proof: String,
    /// As `SELECT ON wiki.*`, `role staff`, `routine Execute ON wiki.sweep`.
    pub rights: BTreeSet<String>,
    /// Whether it is for the server's own machine, and that machine's affair.
    pub local: bool,
}

/// The accounts of a server by `user@host`.
pub type Logins = BTreeMap<String, Login>;

impl Server {
    /// Reads who may log in, and what each may do.
    ///
    /// # Errors
    /// [`crate::error::Error::Remote`] where they cannot be asked for.
    pub async fn logins(&self) -> Result<Logins> {
        let mut logins = Logins::new();
        let machine = self.session.row("SELECT @@hostname AS machine").await?;
        let machine = self.field(&machine, "machine")?;
        let local = |host: &str| ITSELF.contains(&host) || host.eq_ignore_ascii_case(machine);
        for row in self.session.packet(self.dialect().await?.words().logins).await?.iter().flatten() {
            let account = self.field(row, "account")?.replace('\'', "");
            // Two kinds of rows: accounts with their proof, and rights.
            if let Some(proof) = row.get("proof") {
                let local = account.rsplit_once('@').is_none_or(|(_, host)| local(host));
                let proof = proof.clone().unwrap_or_default();
                logins.insert(account, Login { proof, local, rights: BTreeSet::new() });
            } else if let Some(login) = logins.get_mut(&account) {
                login.rights.insert(self.field(row, "held")?.to_owned());
            }
        }
        Ok(logins)
    }
}

impl Login {
    /// Tells whether it may read or change anything that is stored.
    pub fn touches_data(&self) -> bool {
        ["SELECT", "INSERT", "UPDATE", "DELETE", "role "]
            .iter()
            .any(|right| self.rights.iter().any(|held| held.starts_with(right)))
    }
}

/// Tells whether the host of an account lets an address in; nothing where it is a name, which only a resolver can tell.
///
/// Source of the rules: MySQL Reference Manual and MariaDB Knowledge Base, "Account Names": `%` and `_` stand for whatever
/// there is, and an IPv4 address may have a mask behind it, or (MySQL) the length of one.
pub fn lets_in(host: &str, address: IpAddr) -> Option<bool> {
    if let Some((network, mask)) = host.split_once('/') {
        let length = mask.parse::<u32>().ok().and_then(|length| 32_u32.checked_sub(length));
        let mask = length.map(|rest| u32::MAX.checked_shl(rest).unwrap_or(0));
        let mask = mask.or_else(|| host.rsplit_once('/')?.1.parse::<Ipv4Addr>().ok().map(u32::from));
        let (Ok(network), Some(mask), IpAddr::V4(address)) = (network.parse::<Ipv4Addr>(), mask, address) else {
            return Some(false);
        };
        return Some(u32::from(address) & mask == u32::from(network));
    }
    let named = host.chars().any(|one| one.is_ascii_alphabetic()) && !host.contains(':');
    (!named).then(|| alike(host.as_bytes(), address.to_string().as_bytes()))
}

/// Compares as `LIKE` does.
fn alike(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'%', rest)) => (0..=text.len()).any(|from| alike(rest, &text[from..])),
        Some((b'_', rest)) => !text.is_empty() && alike(rest, &text[1..]),
        Some((one, rest)) => text.first() == Some(one) && alike(rest, &text[1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::lets_in;

    #[test]
    fn a_host_lets_in_what_the_manual_says() {
        let address = "10.2.0.11".parse().unwrap();
        for (host, expected) in [
            ("%", Some(true)),
            ("10.2.%", Some(true)),
            ("10.2.0.1_", Some(true)),
            ("10.2.0.0/255.255.255.0", Some(true)),
            ("10.2.0.11", Some(true)),
            ("10.1.%", Some(false)),
            ("10.2.0.1", Some(false)),
            ("10.1.0.0/255.255.255.0", Some(false)),
            ("10.2.0.0/24", Some(true)),
            ("10.1.0.0/16", Some(false)),
            ("0.0.0.0/0", Some(true)),
            ("10.2.0.0/33", Some(false)),
            ("fd00::%", Some(false)),
            ("", Some(false)),
            ("app1.example.org", None),
            ("%.example.org", None),
        ] {
            assert_eq!(lets_in(host, address), expected, "{host}");
        }
    }
}
