//! Thread pools for operations that may block on a disk: a few threads per folder, so that a folder that
//! hangs affects nothing else.
//!
//! tokio's blocking threads are shared by everything a shard does. Here, each static folder has its own
//! threads, and so has the spool. The number of queued jobs is bounded, and so is the time to wait for one.
//! An operation that hangs in the kernel can't be cancelled, so it keeps its thread.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;
use tokio::time::Timeout;

/// How long an idle thread is kept.
const IDLE: Duration = Duration::from_secs(10);

/// How long to wait for a job.
const LIMIT: Duration = Duration::from_secs(30);

/// A small thread pool, which starts threads on demand. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Disk(Arc<Inner>);

struct Inner {
    name: &'static str,
    threads: usize,
    queue: usize,
    limit: Duration,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Box<dyn FnOnce() + Send>>,
    threads: usize,
    idle: usize,
}

/// Why a job has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    #[error("the disk doesn't respond, and too many operations are already waiting for it")]
    Busy,
    #[error("the disk didn't respond within {} s", .0.as_secs())]
    Late(Duration),
    #[error("start a thread that waits for the disk: {0}")]
    Thread(io::Error),
    #[error("the thread that waited for the disk has ended")]
    Ended,
}

impl From<DiskError> for io::Error {
    fn from(error: DiskError) -> Self {
        let kind = match error {
            DiskError::Busy => io::ErrorKind::ResourceBusy,
            DiskError::Late(_) => io::ErrorKind::TimedOut,
            DiskError::Thread(_) | DiskError::Ended => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// The pending result of a job.
#[derive(Debug)]
pub(crate) struct Job<T> {
    result: Result<Waiting<T>, Option<DiskError>>,
    limit: Duration,
}

type Waiting<T> = Pin<Box<Timeout<oneshot::Receiver<T>>>>;

impl Disk {
    /// Creates a pool with at most this many threads and queued jobs.
    pub(crate) fn new(name: &'static str, threads: usize, queue: usize) -> Self {
        Self::with_limit(name, threads, queue, LIMIT)
    }

    fn with_limit(name: &'static str, threads: usize, queue: usize, limit: Duration) -> Self {
        let (state, wake) = (Mutex::default(), Condvar::new());
        Self(Arc::new(Inner { name, threads, queue, limit, state, wake }))
    }

    /// Runs `work` on one of the threads, whether or not the result is awaited.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Job<T> {
        let (done, result) = oneshot::channel();
        let limit = self.0.limit;
        let job = Box::new(move || drop(done.send(work())));
        let submitted = self.submit(job, self.0.queue.max(1));
        let result = submitted.map(|()| Box::pin(tokio::time::timeout(limit, result)));
        Job { result: result.map_err(Some), limit }
    }

    /// Drops `file` on one of the threads, because closing it may block on the disk. This isn't limited by
    /// the queue: there can't be more of these jobs than open files.
    pub(crate) fn close(&self, file: impl Send + 'static) {
        // If no thread can be started, the job is dropped here, with the file.
        let _closed_here = self.submit(Box::new(move || drop(file)), usize::MAX);
    }

    /// Queues a job, unless `queue` jobs wait already.
    fn submit(&self, job: Box<dyn FnOnce() + Send>, queue: usize) -> Result<(), DiskError> {
        let mut state = self.0.state.lock();
        if state.jobs.len() >= queue {
            return Err(DiskError::Busy);
        }
        state.jobs.push_back(job);
        if state.idle >= state.jobs.len() {
            self.0.wake.notify_one();
        } else if state.threads < self.0.threads {
            state.threads += 1;
            let inner = Arc::clone(&self.0);
            let thread = thread::Builder::new().name(self.0.name.to_owned());
            if let Err(error) = thread.spawn(move || inner.work()) {
                state.threads -= 1;
                if state.threads == 0 {
                    let job = state.jobs.pop_back();
                    drop(state);
                    drop(job);
                    return Err(DiskError::Thread(error));
                }
            }
        }
        Ok(())
    }
}

impl Inner {
    /// The loop of a thread.
    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                parking_lot::MutexGuard::unlocked(&mut state, job);
                continue;
            }
            state.idle += 1;
            let waited = self.wake.wait_for(&mut state, IDLE);
            state.idle -= 1;
            if waited.timed_out() && state.jobs.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}

impl<T> Future for Job<T> {
    type Output = Result<T, DiskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { result, limit } = &mut *self;
        match result {
            Ok(result) => result.as_mut().poll(cx).map(|result| match result {
                Ok(Ok(result)) => Ok(result),
                Ok(Err(_)) => Err(DiskError::Ended),
                Err(_) => Err(DiskError::Late(*limit)),
            }),
            Err(error) => Poll::Ready(Err(error.take().unwrap_or(DiskError::Ended))),
        }
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("name", &self.0.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_hung_disk_is_bounded_in_threads_jobs_and_time_and_affects_no_other() {
        let short = Duration::from_millis(100);
        let (hung, other) = (Disk::with_limit("hung", 2, 3, short), Disk::new("other", 2, 3));
        let (release, released) = mpsc::channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let hang = || {
            let released = Arc::clone(&released);
            hung.run(move || released.lock().recv())
        };
        let mut jobs = vec![hang(), hang()];
        while !hung.0.state.lock().jobs.is_empty() {
            tokio::task::yield_now().await;
        }
        jobs.extend([hang(), hang(), hang()]);
        assert!(matches!(hung.run(|| ()).await, Err(DiskError::Busy)));
        let file = Arc::new(());
        hung.close(Arc::clone(&file));
        assert_eq!(Arc::strong_count(&file), 2, "the file was closed on this thread, which must not block");
        for job in jobs {
            assert!(matches!(job.await, Err(DiskError::Late(_))));
        }
        assert_eq!(hung.0.state.lock().threads, 2);
        assert_eq!(other.run(|| 1).await.unwrap(), 1);
        drop(release);
        while !hung.0.state.lock().jobs.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(hung.run(|| 2).await.unwrap(), 2);
        while Arc::strong_count(&file) > 1 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn jobs_share_a_few_threads_and_each_gets_its_result() {
        let disk = Disk::new("disk", 3, 1000);
        let jobs: Vec<_> = (0..500).map(|it| disk.run(move || it)).collect();
        for (number, job) in jobs.into_iter().enumerate() {
            assert_eq!(job.await.unwrap(), number);
        }
        assert!(disk.0.state.lock().threads <= 3);
    }
}
