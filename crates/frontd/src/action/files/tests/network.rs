//! A network file system that hangs: a FUSE mount whose server never responds.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use tokio_util::task::TaskTracker;

use super::*;

/// A mount that hangs until this is dropped.
struct Hung {
    server: Child,
    folder: PathBuf,
}

const SERVER: &str = "exec 3<>/dev/fuse && \
    mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 hung \"$0\" && echo mounted && exec sleep 600";

impl Hung {
    /// Returns `None` if this user may not mount.
    fn new(folder: &Path) -> Option<Self> {
        fs::create_dir(folder).unwrap();
        let mut server = Command::new("sh");
        server.args(["-c", SERVER]).arg(folder).stdout(Stdio::piped());
        let mut server = server.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let hung = Self { server, folder: folder.to_owned() };
        (line == "mounted\n").then_some(hung)
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        // The kernel fails all pending operations.
        let _gone = self.server.kill().and_then(|()| self.server.wait());
        let _unmounted = Command::new("umount").arg("-l").arg(&self.folder).stderr(Stdio::null()).status();
    }
}

#[tokio::test]
async fn a_hung_folder_blocks_neither_its_shard_nor_other_folders() {
    let fixture = Fixture::new();
    let folder = fixture.temp.path().join("hung");
    let Some(server) = Hung::new(&folder) else {
        let may_mount = rustix::process::geteuid().is_root() && Path::new("/dev/fuse").exists();
        assert!(!may_mount, "root cannot mount a filesystem in user space, though /dev/fuse is there");
        skip::skip!("needs root and /dev/fuse");
    };
    let hung = Arc::new(StaticFolder::new("/hung/", &folder, Symlinks::Inside));
    let requests = TaskTracker::new();
    let waiting: Vec<_> = (0..MAX_WAITING + THREADS + 10)
        .map(|number| {
            let hung = Arc::clone(&hung);
            requests.spawn(async move {
                hung.serve(&Method::GET, &format!("{number}.txt"), &HeaderMap::new(), &files()).await.status()
            })
        })
        .collect();
    // Requests beyond the queue are refused at once.
    while !waiting.iter().any(tokio::task::JoinHandle::is_finished) {
        tokio::task::yield_now().await;
    }
    for (file, expected) in [("a.txt", b"0123456789".to_vec()), ("large.bin", pattern(LARGE))] {
        let on_disk = fs::File::open(fixture.path(file)).unwrap();
        on_disk.sync_all().unwrap();
        // If the cached pages are dropped, the read blocks on the disk.
        rustix::fs::fadvise(&on_disk, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        let answer = fixture.site.serve(&Method::GET, file, &HeaderMap::new(), &files()).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), expected);
    }
    assert!(waiting.iter().filter(|it| !it.is_finished()).count() >= MAX_WAITING);
    drop(server);
    for answer in waiting {
        assert_ne!(answer.await.unwrap(), 200);
    }
}
