//! What was found, as a table by file.
//!
//! Invariant: it shows what the hits say, and nothing else.

use super::{Hit, Verdict};
use std::collections::BTreeMap;

/// Builds the lines of the table: one for each file, the worst first, and a line of sums.
pub fn table(hits: &[Hit]) -> Vec<String> {
    const VERDICTS: [(Verdict, &str); 6] = [
        (Verdict::Stale, "stale"),
        (Verdict::Unknown, "unknown"),
        (Verdict::Target, "target"),
        (Verdict::Public, "public"),
        (Verdict::Comment, "comment"),
        (Verdict::Allowed, "allowed"),
    ];
    let mut files: BTreeMap<&str, [usize; 6]> = BTreeMap::new();
    let mut sums = [0; 6];
    for hit in hits {
        let Some(index) = VERDICTS.iter().position(|(verdict, _)| *verdict == hit.verdict) else { continue };
        files.entry(&hit.path).or_default()[index] += 1;
        sums[index] += 1;
    }
    let head = VERDICTS.iter().map(|(_, word)| format!("{word:>8}")).collect::<String>();
    let row = |counts: &[usize; 6], name: &str| {
        let cells: String = counts
            .iter()
            .map(|count| if *count == 0 { format!("{:>8}", "·") } else { format!("{count:>8}") })
            .collect();
        format!("{cells}  {name}")
    };
    let mut rows: Vec<(&str, [usize; 6])> = files.into_iter().collect();
    rows.sort_by_key(|(path, counts)| (std::cmp::Reverse(counts[0] + counts[1]), *path));
    let mut lines = vec![format!("{head}  file")];
    lines.extend(rows.iter().map(|(path, counts)| row(counts, path)));
    lines.push(row(&sums, "in all"));
    lines
}
