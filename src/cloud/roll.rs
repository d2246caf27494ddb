//! A list that many ask for at once, and that is read once for all of them.
//!
//! Invariant: nobody is given a list that was asked for before they came.

use super::Answer;
use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// The last reading of a list, and when it was asked for.
pub(super) struct Roll<T> {
    held: Mutex<Option<(Instant, Rc<Vec<T>>)>>,
}

impl<T> Default for Roll<T> {
    fn default() -> Self {
        Self { held: Mutex::new(None) }
    }
}

impl<T> Roll<T> {
    /// Returns a reading that was begun at a time or later.
    pub async fn fresh<F>(&self, not_before: Instant, read: impl FnOnce() -> F) -> Answer<Rc<Vec<T>>>
    where
        F: Future<Output = Answer<Vec<T>>>,
    {
        let mut held = self.held.lock().await;
        if let Some((at, list)) = &*held
            && *at >= not_before
        {
            return Ok(list.clone());
        }
        let at = Instant::now();
        let list = Rc::new(read().await?);
        *held = Some((at, list.clone()));
        Ok(list)
    }

    /// Returns any reading: of what does not change while we look.
    pub async fn any<F>(&self, read: impl FnOnce() -> F) -> Answer<Rc<Vec<T>>>
    where
        F: Future<Output = Answer<Vec<T>>>,
    {
        let mut held = self.held.lock().await;
        if let Some((_, list)) = &*held {
            return Ok(list.clone());
        }
        let at = Instant::now();
        let list = Rc::new(read().await?);
        *held = Some((at, list.clone()));
        Ok(list)
    }

    /// Returns a reading that was begun after a time, and no sooner than a tick after the last.
    pub async fn next<F>(&self, after: Instant, tick: Duration, read: impl FnOnce() -> F) -> Answer<Rc<Vec<T>>>
    where
        F: Future<Output = Answer<Vec<T>>>,
    {
        let mut held = self.held.lock().await;
        if let Some((at, list)) = &*held {
            if *at > after {
                return Ok(list.clone());
            }
            tokio::time::sleep_until((*at + tick).into()).await;
        }
        let at = Instant::now();
        let list = Rc::new(read().await?);
        *held = Some((at, list.clone()));
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn fifty_who_ask_at_once_cost_two_readings_and_nobody_gets_an_older_one() {
        let (roll, asked) = (Roll::<u32>::default(), Cell::new(0));
        runtime().block_on(async {
            let ask = || async {
                let came = Instant::now();
                let read = || async {
                    asked.set(asked.get() + 1);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    Ok(vec![asked.get()])
                };
                roll.fresh(came, read).await.unwrap()
            };
            futures_util::future::join_all((0..50).map(|_| ask())).await;
            assert!(asked.get() <= 2, "{}", asked.get());
            let before = asked.get();
            assert_eq!(*ask().await, vec![before + 1]);
        });
    }

    #[test]
    fn a_tick_lies_between_two_readings() {
        let (roll, asked) = (Roll::<u32>::default(), Cell::new(0));
        runtime().block_on(async {
            let read = || async {
                asked.set(asked.get() + 1);
                Ok(vec![asked.get()])
            };
            let tick = Duration::from_millis(40);
            let before = Instant::now();
            roll.next(before, tick, read).await.unwrap();
            assert_eq!(*roll.next(before, tick, read).await.unwrap(), vec![1], "new enough");
            let began = Instant::now();
            for _ in 0..3 {
                roll.next(Instant::now(), tick, read).await.unwrap();
            }
            assert!(began.elapsed() >= tick * 2);
            assert_eq!(asked.get(), 4);
        });
    }
}
