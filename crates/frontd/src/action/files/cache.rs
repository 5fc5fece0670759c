//! An in-memory cache of small files, per shard: a hit needs no system call and no other thread.
//!
//! The cache is thread-local, so that shards share no lock. Entries are evicted in the order of insertion,
//! with a second chance for those that were used again.
//!
//! A large file is only cached while it is being sent: all its requests share one descriptor.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::representation::Representation;

/// Bytes per shard.
const CAPACITY: usize = 64 * 1024 * 1024;
/// What an entry costs in addition to its content: headers and keys.
const OVERHEAD: usize = 1024;
/// How long an entry is used before the file is checked again.
const FRESH: Duration = Duration::from_secs(1);

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::new(Cache::new(CAPACITY));
}

/// Identifies a static folder.
pub(super) type FolderId = u64;

#[derive(Debug)]
pub(super) enum Cached {
    Fresh(Arc<Representation>),
    /// To be compared with the disk. Until then, other requests treat it as fresh.
    Stale(Arc<Representation>),
    Absent,
}

/// Looks up a request path in this thread's cache.
pub(super) fn get(folder: FolderId, path: &str) -> Cached {
    CACHE.with_borrow_mut(|cache| cache.get(folder, path, Instant::now()))
}

/// Adds a file to this thread's cache.
pub(super) fn insert(folder: FolderId, path: &str, file: &Arc<Representation>) {
    CACHE.with_borrow_mut(|cache| cache.insert(folder, path, file, Instant::now()));
}

/// Removes a path that no longer leads to a file.
pub(super) fn remove(folder: FolderId, path: &str) {
    CACHE.with_borrow_mut(|cache| cache.remove(folder, path));
}

/// Marks all entries of this thread as stale.
#[cfg(test)]
pub(super) fn expire() {
    CACHE.with_borrow_mut(|cache| {
        cache.folders.values_mut().flat_map(HashMap::values_mut).for_each(|it| it.checked -= FRESH);
    });
}

#[derive(Debug)]
struct Cache {
    capacity: usize,
    size: usize,
    folders: HashMap<FolderId, HashMap<Rc<str>, Entry>>,
    /// The eviction order. May contain entries that no longer exist.
    queue: VecDeque<(FolderId, Rc<str>, u64)>,
    arrivals: u64,
}

#[derive(Debug)]
struct Entry {
    file: Kept,
    size: usize,
    checked: Instant,
    was_used: bool,
    /// Distinguishes this entry from earlier ones for the same path.
    arrival: u64,
}

/// A small file, or a large one that is in use.
#[derive(Debug)]
enum Kept {
    Small(Arc<Representation>),
    Large(Weak<Representation>),
}

impl Kept {
    fn get(&self) -> Option<Arc<Representation>> {
        match self {
            Self::Small(file) => Some(Arc::clone(file)),
            Self::Large(file) => file.upgrade(),
        }
    }
}

impl Cache {
    fn new(capacity: usize) -> Self {
        Self { capacity, size: 0, folders: HashMap::new(), queue: VecDeque::new(), arrivals: 0 }
    }

    fn get(&mut self, folder: FolderId, path: &str, now: Instant) -> Cached {
        let Some(entry) = self.folders.get_mut(&folder).and_then(|files| files.get_mut(path)) else {
            return Cached::Absent;
        };
        let Some(file) = entry.file.get() else { return Cached::Absent };
        entry.was_used = true;
        if now.saturating_duration_since(entry.checked) < FRESH {
            return Cached::Fresh(file);
        }
        entry.checked = now;
        Cached::Stale(file)
    }

    fn insert(&mut self, folder: FolderId, path: &str, file: &Arc<Representation>, now: Instant) {
        self.remove(folder, path);
        let (file, len) = match file.cacheable_len() {
            Some(len) => (Kept::Small(Arc::clone(file)), len),
            None => (Kept::Large(Arc::downgrade(file)), 0),
        };
        let path: Rc<str> = path.into();
        let size = len + path.len() + OVERHEAD;
        self.arrivals += 1;
        let arrival = self.arrivals;
        let entry = Entry { file, size, checked: now, was_used: false, arrival };
        self.size += size;
        self.queue.push_back((folder, Rc::clone(&path), arrival));
        self.folders.entry(folder).or_default().insert(path, entry);
        self.make_room();
    }

    fn remove(&mut self, folder: FolderId, path: &str) {
        let Some(files) = self.folders.get_mut(&folder) else { return };
        if let Some(entry) = files.remove(path) {
            self.size -= entry.size;
        }
        if files.is_empty() {
            self.folders.remove(&folder);
        }
    }

    fn make_room(&mut self) {
        // Replaced entries leave stale items in the queue, which are bounded too.
        while self.size > self.capacity || self.queue.len() > self.capacity / OVERHEAD {
            let Some((folder, path, arrival)) = self.queue.pop_front() else { return };
            let entry = self.folders.get_mut(&folder).and_then(|files| files.get_mut(&path));
            match entry.filter(|entry| entry.arrival == arrival) {
                Some(entry) if entry.was_used => {
                    entry.was_used = false;
                    self.queue.push_back((folder, path, arrival));
                }
                Some(_) => self.remove(folder, &path),
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::open::{self, Symlinks, Target};
    use super::super::path::{FilePath, Names};
    use super::*;

    const FOLDER: FolderId = 1;

    /// A file of this size.
    async fn file(size: usize) -> Arc<Representation> {
        let temp = tempfile::TempDir::new().unwrap();
        std::fs::write(temp.path().join("a.txt"), vec![b'a'; size]).unwrap();
        let path = FilePath::parse("a.txt", Names::Public).unwrap();
        let disk = crate::disk::Disk::new("test", 1, 1);
        let opened = open::open(temp.path(), &path, Symlinks::Inside, &disk).await.unwrap();
        let Target::File(open) = opened else { panic!("a folder") };
        Arc::new(
            Representation::load(open, path.as_path(), &crate::limits::quota::Quota::new(1)).await.unwrap(),
        )
    }

    fn has(cache: &mut Cache, path: &str, now: Instant) -> bool {
        !matches!(cache.get(FOLDER, path, now), Cached::Absent)
    }

    #[tokio::test]
    async fn an_entry_is_fresh_for_a_second_and_then_compared_once() {
        let (mut cache, now) = (Cache::new(CAPACITY), Instant::now());
        cache.insert(FOLDER, "a", &file(10).await, now);
        assert!(matches!(cache.get(FOLDER, "a", now), Cached::Fresh(_)));
        assert!(matches!(cache.get(FOLDER + 1, "a", now), Cached::Absent));
        let later = now + FRESH;
        assert!(matches!(cache.get(FOLDER, "a", later), Cached::Stale(_)));
        assert!(matches!(cache.get(FOLDER, "a", later), Cached::Fresh(_)));
    }

    #[tokio::test]
    async fn memory_is_bounded_and_entries_used_again_stay() {
        let (mut cache, now) = (Cache::new(100 * 1024), Instant::now());
        let file = file(9 * 1024).await;
        cache.insert(FOLDER, "used", &file, now);
        for number in 0..50 {
            assert!(has(&mut cache, "used", now), "before {number}");
            cache.insert(FOLDER, &format!("once-{number}"), &file, now);
            assert!(cache.size <= cache.capacity);
        }
        assert!(!has(&mut cache, "once-0", now));
        assert!(has(&mut cache, "once-49", now));
    }

    #[tokio::test]
    async fn replaced_and_removed_entries_leave_nothing_behind() {
        let (mut cache, now) = (Cache::new(100 * 1024), Instant::now());
        let file = file(1024).await;
        for _ in 0..1000 {
            cache.insert(FOLDER, "a", &file, now);
        }
        assert!(cache.size < 3 * 1024);
        assert!(cache.queue.len() <= 101);
        cache.remove(FOLDER, "a");
        assert!(cache.size == 0 && cache.folders.is_empty());
        cache.remove(FOLDER, "a");
    }

    #[tokio::test]
    async fn a_large_file_is_cached_while_it_is_in_use() {
        let (mut cache, now) = (Cache::new(CAPACITY), Instant::now());
        let file = file(1024 * 1024).await;
        cache.insert(FOLDER, "a", &file, now);
        assert!(has(&mut cache, "a", now) && cache.size < 2 * OVERHEAD);
        drop(file);
        assert!(!has(&mut cache, "a", now));
    }
}
