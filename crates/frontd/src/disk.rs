//! Threads that wait for a disk: a few for each folder that may hang, so that one that does holds up nothing else.
//!
//! Those of tokio are shared by all that a shard does. Here the folders of static files have some each, and so has the
//! spool. Jobs that wait for a thread are bounded, and so is the time that anybody waits for a job: what hangs in the
//! kernel cannot be cancelled, and keeps its thread.

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

/// How long a thread without a job stays.
const IDLE: Duration = Duration::from_secs(10);

/// How long a job is waited for.
const LIMIT: Duration = Duration::from_secs(30);

/// A few threads, made when they are needed; cheap to clone.
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
    #[error("the disk does not respond, and too many operations wait for it already")]
    Busy,
    #[error("the disk did not answer in {} s", .0.as_secs())]
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

/// The result of a job, once it is there.
#[derive(Debug)]
pub(crate) struct Job<T> {
    result: Result<Waiting<T>, Option<DiskError>>,
    limit: Duration,
}

type Waiting<T> = Pin<Box<Timeout<oneshot::Receiver<T>>>>;

impl Disk {
    /// At most so many threads, and so many jobs that wait for one.
    pub(crate) fn new(name: &'static str, threads: usize, queue: usize) -> Self {
        Self::with_limit(name, threads, queue, LIMIT)
    }

    fn with_limit(name: &'static str, threads: usize, queue: usize, limit: Duration) -> Self {
        let (state, wake) = (Mutex::default(), Condvar::new());
        Self(Arc::new(Inner { name, threads, queue, limit, state, wake }))
    }

    /// Has `work` done by one of the threads, whether its result is waited for or not.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Job<T> {
        let (done, result) = oneshot::channel();
        let limit = self.0.limit;
        let job = Box::new(move || drop(done.send(work())));
        let submitted = self.submit(job, self.0.queue.max(1));
        let result = submitted.map(|()| Box::pin(tokio::time::timeout(limit, result)));
        Job { result: result.map_err(Some), limit }
    }

    /// Has `file` dropped by one of the threads, however much waits for them: a close may wait for its disk too. There
    /// are no more of these than open files.
    pub(crate) fn close(&self, file: impl Send + 'static) {
        // Without any thread the job is dropped here, and what it holds with it.
        let _closed_here = self.submit(Box::new(move || drop(file)), usize::MAX);
    }

    /// Gives `job` to a thread, unless as many as `queue` wait already.
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
    /// What a thread does.
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
    async fn a_disk_that_hangs_bounds_its_threads_its_jobs_and_their_time_and_no_other() {
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
        assert_eq!(Arc::strong_count(&file), 2, "closed on a thread that must not wait");
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
    async fn jobs_share_few_threads_and_each_has_its_result() {
        let disk = Disk::new("disk", 3, 1000);
        let jobs: Vec<_> = (0..500).map(|it| disk.run(move || it)).collect();
        for (number, job) in jobs.into_iter().enumerate() {
            assert_eq!(job.await.unwrap(), number);
        }
        assert!(disk.0.state.lock().threads <= 3);
    }
}
