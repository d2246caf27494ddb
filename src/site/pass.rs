//! How a host carries trees of files to another.
//!
//! Invariant: both ends are ended whatever came of it; what a pass that broke off brought is gone on with by the next.

use super::{Brought, Standing, Trees, Work, Worker};
use crate::error::{Error, Result};
use crate::journal::Permit;
use futures_util::future::{join, try_join};
use std::time::{Duration, Instant};

/// How long one look waits for the end of a pass, in seconds.
const LOOK: u64 = 3;
/// How many seconds longer than a step may last whoever takes listens.
const SPARE: u64 = 600;

/// What a pass does to the other side's trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// They become alike; what only they have goes.
    Mirror,
    /// As before, and what is of the same size and time is read and compared too.
    MirrorAll,
    /// They get what they lack, or have older; nothing goes. It is done again, some times, until there is nothing more.
    Add,
}

impl Trees {
    /// Says until when what begins now may last.
    pub fn until(&self) -> Instant {
        Instant::now() + Duration::from_millis(self.limit_ms)
    }

    /// Carries what the other side lacks. One that may break off ends where somebody asks for the end.
    ///
    /// # Errors
    /// [`Error::Remote`] with what either end said, [`Error::Deadline`], [`Error::Interrupted`].
    pub async fn pass(&self, permit: &Permit, how: Pass, until: Instant, may_break_off: bool) -> Result<Brought> {
        let brought = self.carry(permit, how, until, may_break_off).await;
        // One that is done ended by itself; whoever takes never does.
        let ended = join(
            async { if brought.is_ok() { Ok(()) } else { self.pushes.reset(permit).await } },
            self.takes.reset(permit),
        );
        let (pushes, takes) = ended.await;
        let brought = brought?;
        pushes.and(takes)?;
        Ok(brought)
    }

    async fn carry(&self, permit: &Permit, how: Pass, until: Instant, may_break_off: bool) -> Result<Brought> {
        let (pushes, takes) = (&self.pushes, &self.takes);
        let (theirs, ours) = try_join(pushes.ready(permit), takes.ready(permit)).await?;
        let way = [("ADDRESS", self.address.to_string()), ("PORT", self.port.to_string())];
        let mut take = vec![("ROLE", "take".to_owned()), ("PATHS", self.ours.join("\n"))];
        take.extend(way.clone());
        // Where nobody is left to end it, it ends by itself.
        take.push(("LIMIT", (self.limit_ms / 1000 + SPARE).to_string()));
        let word = |said: bool| if said { "1".to_owned() } else { String::new() };
        let mut push = vec![
            ("ROLE", "push".to_owned()),
            ("PATHS", self.theirs.join("\n")),
            ("EXCLUDE", self.their_exclude.join("\n")),
            ("CHECKSUM", word(how == Pass::MirrorAll)),
            ("ADD", word(how == Pass::Add)),
        ];
        push.extend(way);
        // Whoever pushes finds it listening.
        takes.begin(permit, &take, &theirs).await?;
        pushes.begin(permit, &push, &ours).await?;
        let ended = loop {
            let there = tokio::select! {
                there = pushes.standing(Some(LOOK)) => there?,
                why = pushes.outside.interrupted(), if may_break_off => return Err(Error::Interrupted(why)),
            };
            if there.work != Work::Working || Instant::now() >= until {
                break there;
            }
        };
        match ended.work {
            Work::Done => Ok(ended.brought),
            Work::Working => {
                let what = format!("{}: files to {}, TCP {}:{}", pushes.host, takes.host, self.address, self.port);
                Err(Error::Deadline { what, limit_ms: self.limit_ms })
            }
            Work::Failed | Work::Nothing => {
                let words = |worker: &Worker, words: String| match words.is_empty() {
                    true => format!("it ended without a word: see {}/{}/log", worker.folder, worker.job),
                    false => words,
                };
                let mut problem = words(pushes, ended.words);
                if let Ok(Standing { work: Work::Failed, words: theirs, .. }) = takes.standing(None).await {
                    problem += &format!("; {}: {}", takes.host, words(takes, theirs));
                }
                Err(Error::remote(&pushes.host, problem))
            }
        }
    }
}
