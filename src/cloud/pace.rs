//! How much is asked of a cloud at once.
//!
//! Invariant: never more than the pillar allows; half as much after each sign that it is too much; one more after as many
//! good answers as there are turns; nothing before the time that the cloud asked for.

use std::cell::Cell;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The turns of one cloud.
pub struct Pace {
    most: usize,
    now: Cell<usize>,
    taken: Cell<usize>,
    good: Cell<usize>,
    not_before: Cell<Option<Instant>>,
    given_back: Notify,
}

/// The right to be one of those who ask.
pub struct Turn<'a>(&'a Pace);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.taken.set(self.0.taken.get().saturating_sub(1));
        self.0.given_back.notify_waiters();
    }
}

impl Pace {
    /// Allows so many at once.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            now: Cell::new(most),
            taken: Cell::new(0),
            good: Cell::new(0),
            not_before: Cell::new(None),
            given_back: Notify::new(),
        }
    }

    /// Waits until it is one's turn.
    pub async fn turn(&self) -> Turn<'_> {
        loop {
            let given_back = self.given_back.notified();
            let rest = self.not_before.get().and_then(|at| at.checked_duration_since(Instant::now()));
            match rest {
                Some(rest) => tokio::time::sleep(rest).await,
                None if self.taken.get() < self.now.get() => {
                    self.taken.set(self.taken.get() + 1);
                    return Turn(self);
                }
                None => given_back.await,
            }
        }
    }

    /// Halves the pace, and lets the cloud alone for a while.
    pub fn too_much(&self, rest: Duration) {
        self.now.set((self.now.get() / 2).max(1));
        self.good.set(0);
        self.not_before.set(Some(Instant::now() + rest));
    }

    /// Counts a good answer.
    pub fn went_well(&self) {
        self.good.set(self.good.get() + 1);
        if self.good.get() >= self.now.get() && self.now.get() < self.most {
            self.now.set(self.now.get() + 1);
            self.good.set(0);
            self.given_back.notify_waiters();
        }
    }

    /// Tells how many may ask at once now.
    pub fn width(&self) -> usize {
        self.now.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::join_all;

    #[test]
    fn never_more_than_allowed_and_half_as_many_after_a_sign() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let pace = Pace::new(8);
            let (running, peak) = (Cell::new(0usize), Cell::new(0usize));
            let work = async || {
                let _turn = pace.turn().await;
                running.set(running.get() + 1);
                peak.set(peak.get().max(running.get()));
                tokio::time::sleep(Duration::from_millis(2)).await;
                running.set(running.get() - 1);
            };
            join_all((0..40).map(|_| work())).await;
            assert_eq!(peak.replace(0), 8);
            pace.too_much(Duration::from_millis(20));
            let began = Instant::now();
            join_all((0..20).map(|_| work())).await;
            assert_eq!(peak.get(), 4);
            assert!(began.elapsed() >= Duration::from_millis(20));
            for _ in 0..100 {
                pace.went_well();
            }
            assert_eq!(pace.width(), 8);
            for _ in 0..10 {
                pace.too_much(Duration::ZERO);
            }
            assert_eq!(pace.width(), 1);
        });
    }
}
