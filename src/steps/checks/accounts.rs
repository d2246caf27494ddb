//! Whether people and programs can log in to the target as they do to the source, and do the same there.

use super::{Notes, Topic};
use crate::database::{Logins, Server, lets_in};
use crate::error::Result;
use crate::event::Finding;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::rc::Rc;

/// How many rights a finding names.
const NAMED: usize = 3;

/// The accounts of both primaries.
pub struct Accounts {
    pub from: Rc<Server>,
    pub to: Rc<Server>,
    /// The tool's own accounts: with each it logs in on both sides, and sees for itself.
    pub ours: [String; 3],
    /// Each application node with its address on the side that serves, and on the other.
    pub nodes: Vec<(String, IpAddr, IpAddr)>,
    /// Milliseconds within which the target is given what the source has.
    pub limit_ms: u64,
}

impl Topic for Accounts {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = self.compared().await?;
        if !notes.findings.is_empty() {
            // What was granted just now may be on its way; who stands is another check's to name.
            let position = self.from.binlog_position().await?;
            if matches!(self.to.has(&position, self.limit_ms).await, Ok(true)) {
                notes = self.compared().await?;
            }
        }
        Ok(notes.findings)
    }
}

impl Accounts {
    async fn compared(&self) -> Result<Notes> {
        let mut notes = Notes::new("accounts");
        let (theirs, ours) = match (self.from.logins().await, self.to.logins().await) {
            (Ok(theirs), Ok(ours)) => (theirs, ours),
            (Err(error), _) | (_, Err(error)) => {
                notes.warn(&self.to.name, format!("accounts are not compared: {error}"), "compare them by hand");
                return Ok(notes);
            }
        };
        self.alike(&mut notes, &theirs, &ours);
        self.let_in(&mut notes, &ours).await?;
        Ok(notes)
    }

    fn alike(&self, notes: &mut Notes, theirs: &Logins, ours: &Logins) {
        let (from, to) = (&self.from.name, &self.to.name);
        // A newer server has rights that an older one has no word for; roles people make.
        let words: BTreeSet<&str> = ours.values().flat_map(|login| &login.rights).map(|right| word(right)).collect();
        let made = |right: &str| right.starts_with("role ") || right.starts_with("routine ");
        let known = |right: &str| made(right) || words.contains(word(right));
        for (account, there) in theirs.iter().filter(|(_, login)| !login.local) {
            let mend = format!(
                "SHOW CREATE USER and SHOW GRANTS on {from}, and run here what they say, with SET SESSION sql_log_bin=0"
            );
            let Some(here) = ours.get(account) else {
                notes.doubt(to, format!("{account} is on {from}, and not here"), mend);
                continue;
            };
            if here.proof != there.proof && !self.is_ours(account) {
                let what = format!("{account} logs in otherwise than on {from}: another password, plugin or lock");
                notes.doubt(to, what, mend.clone());
            }
            let lacks: Vec<&str> = there.rights.difference(&here.rights).map(String::as_str).collect();
            let lacks: Vec<&str> = lacks.into_iter().filter(|right| known(right)).collect();
            if !lacks.is_empty() {
                let more = lacks.len().saturating_sub(NAMED);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                let named = lacks.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
                notes.doubt(to, format!("{account} may on {from}, and not here: {named}{more}"), mend);
            }
        }
    }

    fn is_ours(&self, account: &str) -> bool {
        account.rsplit_once('@').is_some_and(|(user, _)| self.ours.iter().any(|ours| ours == user))
    }

    /// An account may be for the addresses of one side. Who is connected now is in use; of others nobody knows.
    async fn let_in(&self, notes: &mut Notes, ours: &Logins) -> Result<()> {
        if self.nodes.is_empty() {
            return Ok(());
        }
        let connected = self.from.connected().await?;
        let split = |account: &str| account.rsplit_once('@').map(|(user, host)| (user.to_owned(), host.to_owned()));
        let users: BTreeSet<String> = ours
            .iter()
            .filter(|(account, login)| !login.local && login.touches_data() && !self.is_ours(account))
            .filter_map(|(account, _)| Some(split(account)?.0))
            .collect();
        for user in users {
            let hosts: Vec<String> = ours
                .keys()
                .filter_map(|account| split(account))
                .filter(|(who, _)| *who == user)
                .map(|(_, host)| host)
                .collect();
            // Where a name may let it in, nobody here can tell.
            let may = |address: IpAddr| hosts.iter().any(|host| lets_in(host, address) != Some(false));
            for (node, before, after) in &self.nodes {
                if may(*before) && !may(*after) {
                    let what = format!("{user} may log in from {node} at {before}, and not at {after}");
                    let mend = format!(
                        "on {}: CREATE USER '{user}'@'{after}' as it is for {before}, with the same grants; replication brings it here",
                        self.from.name
                    );
                    if connected.contains_key(&user) {
                        notes.doubt(&self.to.name, what, mend);
                    } else {
                        notes.warn(&self.to.name, what, mend);
                    }
                }
            }
        }
        Ok(())
    }
}

/// The right itself, without what it is for.
fn word(right: &str) -> &str {
    right.split(" ON ").next().unwrap_or(right)
}
