//! What a primary's server reads at boot, so that a reboot undoes nothing.
//!
//! Invariant: the first line marks the file as ours; what bears it may be replaced by us.

use crate::database::Server;
use crate::settings::{Family, Settings};
use crate::steps::MARK;

/// Names the file that holds a server's role at boot.
pub fn file(settings: &Settings, server: &Server) -> String {
    let own = settings.node(server.side, &server.node).and_then(|node| node.role_file.clone());
    let folder = match settings.family() {
        Family::MariaDb => "mariadb.conf.d",
        Family::MySql => "mysql.conf.d",
    };
    own.or_else(|| settings.databases.role_file.clone())
        .unwrap_or_else(|| format!("/etc/mysql/{folder}/99-saltext-migrate.cnf"))
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
pub fn newcomer(family: Family) -> String {
    let role = match family {
        Family::MariaDb => "read_only=1\nevent_scheduler=OFF",
        // Its scheduler rests as long as this holds; and what a flip has it keep wins over every file.
        Family::MySql => "super_read_only=ON",
    };
    format!("{MARK}: a replica until the flip.\n[mysqld]\n{role}\n")
}
