//! The page for the night on which everything that should take a run back is dead: plain SQL with real names.
//!
//! Invariant: what it tells a person to do is what the engine would do, through the same row, in the same order.

use super::role;
use crate::database::Server;
use crate::database::dialect::Dialect;
use crate::settings::{Settings, Side};
use crate::steps::Opening;

/// Writes the page for a transfer from one primary to the other.
pub fn page(settings: &Settings, from: &Server, to: &Server, dialect: &dyn Dialect, opening: &Opening) -> String {
    let (source, target) = (&from.name, &to.name);
    let notices = |side: Side| notices(settings, side);
    let services = settings.edge.as_ref().map_or_else(
        || "  (no CDN service is named in the pillar)".to_owned(),
        |edge| {
            edge.services
                .iter()
                .map(|(name, service)| format!("  {name} ({})", service.id))
                .collect::<Vec<_>>()
                .join("\n")
        },
    );
    format!(
        "BREAK GLASS: the move from {source} to {target} stands still, and nothing takes it back.\n\
         Written by saltext-migrate before the move. Every statement is safe to repeat.\n\
         \n\
         {source:<12} {source_place:<22} the primary that is fenced\n\
         {target:<12} {target_place:<22} the primary that takes over\n\
         \n\
         0. If the controller lives, type there and stop reading:   salt-run migrate.abort\n\
         \n\
         1. On {target}: who has decided? If nobody has, this decides for going back, and whoever comes later loses.\n\
         \n\
         {decide}\n\
         \n\
         It says 'unfence': go to 2.   It says 'promote': go to 3.\n\
         {target} does not answer: make sure that it is dead or closed (power, console) before 2. If you cannot, wait:\n\
         two primaries that both accept writes are worse than none.\n\
         \n\
         2. BACK. On {source}: open it, and say so for the next boot.\n\
         \n\
         {open}\n\
         SELECT @@global.read_only;\n\
         \n\
         {source_role}\n\
         Take the notice down: rm {from_notices}\n\
         In the CDN's control panel activate, for each service, the version before the one whose comment begins with\n\
         'saltext-migrate'; then: rm {to_notices}\n\
         {services}\n\
         \n\
         3. FORWARD. {target} was opened: it is the primary, and may hold writes that {source} has not. On {target}:\n\
         \n\
         {open}\n\
         SELECT @@global.read_only;\n\
         \n\
         {target_role}\n\
         Leave {source} fenced. Take the notice down: rm {to_notices}\n\
         In the CDN's control panel activate, for each service, the newest version whose comment begins with\n\
         'saltext-migrate'. When the controller lives again, run the same command again: it finishes the rest.\n",
        source_place = from.place(),
        target_place = to.place(),
        decide = dialect.decide_by_hand(),
        open = dialect.open_by_page(opening.domain, opening.scheduler),
        source_role = writable_at_boot(settings, from, dialect),
        target_role = writable_at_boot(settings, to, dialect),
        from_notices = notices(from.side),
        to_notices = notices(to.side),
    )
}

fn notices(settings: &Settings, side: Side) -> String {
    let notice = &settings.notice;
    let file = |name: &String| {
        let own = settings.node(side, name).and_then(|node| node.notice_path.clone());
        format!("{} (on {}-{name})", own.unwrap_or_else(|| notice.path.clone()), side.word())
    };
    notice.nodes.of(side).iter().map(file).collect::<Vec<_>>().join(", ")
}

/// Spells the command that a shell of the server's host takes, where the server does not keep its role itself.
fn writable_at_boot(settings: &Settings, server: &Server, dialect: &dyn Dialect) -> String {
    if dialect.keeps_its_role() {
        return "(The next boot will find it so.)".to_owned();
    }
    let content = role::content(settings, false).replace('\n', "\\n");
    format!("printf '{content}' > {}   (on {})", role::file(settings, server), server.name)
}
