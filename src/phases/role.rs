//! What a primary's server reads at boot, so that a reboot undoes nothing.
//!
//! Invariant: the first line marks the file as ours; what bears it may be replaced by us.

use crate::database::Server;
use crate::settings::Settings;
use crate::steps::MARK;

/// Names the file that holds a server's role at boot.
pub fn file(settings: &Settings, server: &Server) -> String {
    let own = settings.node(server.side, &server.node).and_then(|node| node.role_file.clone());
    own.unwrap_or_else(|| settings.databases.role_file.clone())
}

/// Writes what the file says.
pub fn content(settings: &Settings, read_only: bool) -> String {
    let mut content = format!("{MARK}: the role outlives a reboot.\n[mysqld]\nread_only={}\n", u8::from(read_only));
    if read_only {
        // A fence that a reboot brought back must hold off what the fence itself did: see `domain` and `scheduler`.
        content += &format!("gtid_domain_id={}\nevent_scheduler=OFF\n", settings.databases.quarantine_domain);
    }
    content
}

/// Writes what the file of a new server says, until a flip says something else: its copied events are the primary's to run.
pub fn newcomer() -> String {
    format!("{MARK}: a replica until the flip.\n[mysqld]\nread_only=1\nevent_scheduler=OFF\n")
}
