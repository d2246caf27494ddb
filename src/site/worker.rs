//! The worker on a host that sends or receives a copy: of a database server, or of trees of files.
//!
//! Invariant: a worker is told to begin only once; it outlives us, and is found again by the name of its job. Certificates
//! travel, keys never do.

use super::trees::{Facts, NOT_THERE};
use super::{HostFile, write};
use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::outside::{Call, Outside};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How a worker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    Nothing,
    Working,
    Done,
    Failed,
}

/// How a job stands, and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    pub work: Work,
    /// Where the copied server's binlog stood.
    pub position: String,
    /// Why it failed.
    pub words: String,
    pub brought: Brought,
}

/// What a job brought that adds to trees of files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Brought {
    pub files: u64,
    pub passes: u64,
    /// How many of them in the last pass: then somebody still writes.
    pub last: u64,
    /// The first of those.
    pub names: Vec<String>,
}

/// Seconds within which a host has looked at every file of its trees.
const READ: u64 = 3_600;

/// The trees of a host, and what of them is left alone.
pub struct Listed<'a> {
    pub trees: &'a [String],
    pub exclude: &'a [String],
}

/// One job on one host.
pub struct Worker {
    pub outside: Outside,
    pub host: String,
    pub folder: String,
    pub job: String,
    /// How long an answer may take.
    pub seconds: u64,
}

impl Worker {
    /// Returns the host's certificate; it is made the first time.
    ///
    /// # Errors
    /// [`Error::Remote`] where the host does not answer, or cannot make one.
    pub async fn certificate(&self, _permit: &Permit) -> Result<String> {
        self.shown("identity").await
    }

    /// Ends the worker, where it lives, forgets how it ended, and returns the host's certificate.
    ///
    /// # Errors
    /// As [`Worker::certificate`].
    pub async fn ready(&self, _permit: &Permit) -> Result<String> {
        self.shown("ready").await
    }

    async fn shown(&self, verb: &str) -> Result<String> {
        let said = self.call(verb, "").await?;
        if said.contains("BEGIN CERTIFICATE") {
            return Ok(said);
        }
        Err(Error::remote(&self.host, format!("it has no certificate: {said}")))
    }

    /// Looks how the job stands, at once, or once it has ended or some seconds are over.
    ///
    /// # Errors
    /// As [`Worker::certificate`].
    pub async fn standing(&self, wait: Option<u64>) -> Result<Standing> {
        let said = self.call("status", &wait.map(|seconds| seconds.to_string()).unwrap_or_default()).await?;
        let of = |key: &str| said.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim().to_owned();
        let work = match of("state=").as_str() {
            "working" => Work::Working,
            "done" => Work::Done,
            "failed" => Work::Failed,
            "nothing" => Work::Nothing,
            _ => return Err(Error::remote(&self.host, format!("the worker {} says {said:?}", self.job))),
        };
        let brought = of("brought=");
        let mut counts = brought.split(' ').filter_map(|count| count.parse().ok());
        let mut count = || counts.next().unwrap_or_default();
        let names = said.lines().filter_map(|line| line.strip_prefix("name=")).map(str::to_owned).collect();
        let brought = Brought { files: count(), passes: count(), last: count(), names };
        Ok(Standing { work, position: of("position="), words: of("words="), brought })
    }

    /// Ends the worker, where it lives, and forgets how it ended.
    ///
    /// # Errors
    /// As [`Worker::certificate`].
    pub async fn reset(&self, _permit: &Permit) -> Result<()> {
        self.call("reset", "").await.map(|_| ())
    }

    /// Begins the job with some settings and the certificate of the other end.
    ///
    /// # Errors
    /// As [`Worker::certificate`].
    pub async fn begin(&self, permit: &Permit, settings: &[(&str, String)], peer: &str) -> Result<()> {
        let (mut lines, mut texts) = (format!("PEER={}\n", quoted(peer)), Vec::new());
        for (name, value) in settings {
            let parts = parts(value);
            if let [whole] = parts[..] {
                lines += &format!("{name}={}\n", quoted(whole));
                continue;
            }
            // What grows with the site travels in parts, each a message that its host takes.
            let names: Vec<String> = (0..parts.len()).map(|number| format!("{name}.{number}")).collect();
            lines += &format!("{name}=$(cd \"$job\" && cat {})\n", names.join(" "));
            texts.extend(names.into_iter().zip(parts.into_iter().map(str::to_owned)));
        }
        // What is short needs no message of its own; none of it is secret.
        let mut told = String::new();
        if lines.len() > PART {
            texts.push(("settings".to_owned(), lines));
        } else {
            told = format!("SETTINGS={} ", quoted(&lines));
        }
        let place = |name: &str| format!("{}/{}/{name}", self.folder, self.job);
        let file = |name: &str| HostFile { host: self.host.clone(), path: place(name) };
        let files: Vec<HostFile> = texts.iter().map(|(name, _)| file(name)).collect();
        let contents = texts.into_iter().map(|(name, text)| (file(&name).key(), Some(text))).collect();
        write(&self.outside, permit, &files, &contents, self.seconds).await?;
        self.run(&told, "start", "", self.seconds).await.map(|_| ())
    }

    /// Reads what the job found.
    ///
    /// # Errors
    /// As [`Worker::certificate`].
    pub async fn result(&self) -> Result<String> {
        self.call("result", "").await
    }

    /// Hashes trees of files: by path, the hash over everything in it, and how many files.
    ///
    /// # Errors
    /// As [`Worker::certificate`].
    pub async fn manifest(&self, paths: &[String], exclude: &[String]) -> Result<BTreeMap<String, (String, u64)>> {
        let told = format!("PATHS={} EXCLUDE={} ", quoted(&paths.join("\n")), quoted(&exclude.join("\n")));
        let said = self.run(&told, "manifest", "", READ).await?;
        let tree = |line: &str| {
            let mut words = line.strip_prefix("tree=")?.splitn(3, ' ');
            let (hash, files) = (words.next()?.to_owned(), words.next()?.parse().ok()?);
            Some((words.next()?.to_owned(), (hash, files)))
        };
        Ok(said.lines().filter_map(tree).collect())
    }

    /// Tells of one tree of several what its manifest holds: the hash and the size of every part of it, or the lines of some
    /// parts.
    ///
    /// # Errors
    /// As [`Worker::certificate`].
    pub async fn facts(&self, path: &str, of: &Listed<'_>, facts: Facts, parts: &str) -> Result<String> {
        let facts = if facts == Facts::Times { "FACTS=times " } else { "" };
        let (trees, exclude) = (quoted(&of.trees.join("\n")), quoted(&of.exclude.join("\n")));
        let told = format!("PATHS={} TREES={trees} EXCLUDE={exclude} {facts}PARTS='{parts}' ", quoted(path));
        self.run(&told, "manifest", "", READ).await
    }

    /// Counts, by git tree below some paths, the changes that nobody committed; nothing need be on the host for it.
    ///
    /// # Errors
    /// As [`Worker::certificate`].
    pub async fn uncommitted(&self, paths: &[String]) -> Result<BTreeMap<String, u64>> {
        let paths: Vec<String> = paths.iter().map(|path| quoted(path)).collect();
        let line = format!(
            "command -v git >/dev/null || exit 0; find {} -xdev -maxdepth 6 -name .git 2>/dev/null | while IFS= read -r git; do \
             tree=${{git%/.git}}; echo \"$(GIT_OPTIONAL_LOCKS=0 git -c safe.directory='*' -C \"$tree\" status --porcelain | wc -l) $tree\"; done",
            paths.join(" ")
        );
        let said = self.shell("looking for git trees", line, self.seconds).await?;
        let counted = said.lines().filter_map(|line| line.trim().split_once(' '));
        Ok(counted
            .filter_map(|(count, tree)| Some((tree.to_owned(), count.parse().ok()?)))
            .filter(|(_, count)| *count > 0)
            .collect())
    }

    async fn call(&self, verb: &str, argument: &str) -> Result<String> {
        self.run("", verb, argument, self.seconds).await
    }

    async fn run(&self, before: &str, verb: &str, argument: &str, seconds: u64) -> Result<String> {
        let (program, job) = (format!("{}/carry.sh", self.folder), &self.job);
        // A host on which nothing was put yet has no job either.
        let line = format!(
            "if [ -x '{program}' ]; then {before}'{program}' {verb} '{job}' {argument}; else echo {NOT_THERE}; fi"
        );
        self.shell(verb, line, seconds).await
    }

    async fn shell(&self, what: &str, line: String, seconds: u64) -> Result<String> {
        let calls = vec![Call::new("cmd.run_all", json!({"cmd": line, "python_shell": true}))];
        let hosts = [self.host.clone()];
        let mut answers = self.outside.call(&hosts, calls, seconds).await?;
        match answers.remove(&self.host).and_then(|said| said.into_iter().next()) {
            Some(Ok(Value::Object(said))) if said.get("retcode").and_then(Value::as_i64) == Some(0) => {
                Ok(said.get("stdout").and_then(Value::as_str).unwrap_or_default().to_owned())
            }
            Some(Ok(said)) => Err(Error::remote(&self.host, format!("{what}: {said}"))),
            Some(Err(problem)) => Err(Error::remote(&self.host, format!("{what}: {problem}"))),
            None => Err(Error::remote(&self.host, format!("{what}: no answer"))),
        }
    }
}

/// How many bytes of a text go into one message, where its lines allow it.
const PART: usize = 32_768;

/// Cuts a long text at ends of lines.
fn parts(text: &str) -> Vec<&str> {
    let (mut parts, mut from, mut end) = (Vec::new(), 0, 0);
    for line in text.split_inclusive('\n') {
        if end > from && end + line.len() - from > PART {
            parts.push(&text[from..end]);
            from = end;
        }
        end += line.len();
    }
    parts.push(&text[from..]);
    parts
}

/// Quotes a text as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_at_ends_of_lines_and_nothing_of_it_is_lost() {
        let line = "x".repeat(1000) + "\n";
        let text = line.repeat(100);
        let found = parts(&text);
        assert_eq!(found.concat(), text);
        assert!(found.len() > 3 && found.iter().all(|part| part.ends_with('\n') && part.len() <= PART));
        let whole = "y".repeat(PART * 3);
        assert_eq!(parts(&whole), [whole.as_str()]);
        assert_eq!(parts(""), [""]);
    }
}
