//! Output to full pipes, unread sockets, files and slow disks.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;

use super::*;

const REPORT: &str = "dropped:";

fn report(lines: u64) -> Vec<u8> {
    format!("{REPORT}{lines}\n").into_bytes()
}

fn leaked(output: Output) -> &'static Output {
    Box::leak(Box::new(output))
}

/// Reads lines up to `last`. Returns how many were complete, and how many were reported as dropped.
fn read(mut from: impl io::Read, is_line: impl Fn(&str) -> bool, last: &str) -> (u64, u64) {
    let (mut text, mut piece) = (Vec::new(), [0; 4096]);
    while !text.ends_with(last.as_bytes()) {
        let read = from.read(&mut piece).unwrap();
        assert!(read > 0, "the stream ended before {last:?}");
        text.extend_from_slice(&piece[..read]);
    }
    let text = String::from_utf8(text).unwrap();
    let mut came = (0, 0);
    for line in text.lines().filter(|it| !it.is_empty() && *it != last.trim_end()) {
        match line.strip_prefix(REPORT) {
            Some(dropped) => came.1 += dropped.parse::<u64>().unwrap(),
            None => {
                assert!(is_line(line), "cut or mixed: {line:?}");
                came.0 += 1;
            }
        }
    }
    came
}

/// Writes `threads` × `lines` lines while nobody reads.
fn write_unread(output: &'static Output, threads: u64, lines: u64) {
    thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for number in 0..lines {
                    output.write(line(thread, number));
                }
            });
        }
    });
}

fn line(thread: u64, number: u64) -> Vec<u8> {
    let length = usize::try_from(number % 300).unwrap();
    format!("<{thread} {number} {}>\n", "x".repeat(length)).into_bytes()
}

fn is_whole(line: &str) -> bool {
    line.starts_with('<') && line.ends_with('>') && line.matches('<').count() == 1
}

#[test]
fn a_full_pipe_never_blocks_and_dropped_lines_are_reported() {
    static PIPE: OnceLock<(PipeReader, PipeWriter)> = OnceLock::new();
    let (reader, writer) = PIPE.get_or_init(|| io::pipe().unwrap());
    let capacity = rustix::pipe::fcntl_getpipe_size(writer).unwrap();
    { writer }.write_all(&vec![b'\n'; capacity]).unwrap();
    let output = leaked(Output::new(|| PIPE.get().unwrap().1.as_fd(), report));
    write_unread(output, 4, 5000);
    assert!(output.queue().lock().bytes <= LIMIT + OVERHEAD);
    output.flush(Duration::ZERO);

    // Reads until there is room for one more line, which is the last one.
    let until_empty = thread::spawn(move || {
        output.flush(Duration::from_secs(600));
        output.write(b"last\n".to_vec());
    });
    let (came, dropped) = read(reader, is_whole, "last\n");
    until_empty.join().unwrap();
    assert!(dropped > 0, "nothing was dropped of 20,000 lines");
    assert_eq!(came + dropped, 20_000);
    assert!(output.dropped() >= dropped);
}

#[test]
fn an_unread_socket_never_blocks_and_no_line_is_truncated() {
    static ENDS: OnceLock<(UnixStream, UnixStream)> = OnceLock::new();
    let (reader, _) = ENDS.get_or_init(|| UnixStream::pair().unwrap());
    let output = leaked(Output::new(|| ENDS.get().unwrap().1.as_fd(), report));
    write_unread(output, 4, 5000);
    let until_empty = thread::spawn(move || {
        output.flush(Duration::from_secs(600));
        output.write(b"last\n".to_vec());
    });
    let (came, dropped) = read(reader, is_whole, "last\n");
    until_empty.join().unwrap();
    assert!(dropped > 0, "nothing was dropped of 20,000 lines");
    assert_eq!(came + dropped, 20_000);
}

#[test]
fn with_a_reader_lines_are_written_directly_without_a_thread() {
    static PIPE: OnceLock<(PipeReader, PipeWriter)> = OnceLock::new();
    let (reader, _) = PIPE.get_or_init(|| io::pipe().unwrap());
    let output = leaked(Output::new(|| PIPE.get().unwrap().1.as_fd(), report));
    for length in [0, 1, PAGE, 5 * PAGE] {
        let line = vec![b'x'; length];
        output.write(line.clone());
        let mut came = vec![0; length];
        { reader }.read_exact(&mut came).unwrap();
        assert_eq!(came, line);
    }
    assert!(!output.queue().lock().has_writer);
}

#[test]
fn a_file_accepts_everything_and_a_closed_pipe_nothing() {
    static FILE: OnceLock<File> = OnceLock::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    FILE.get_or_init(|| file.reopen().unwrap());
    let output = leaked(Output::new(|| FILE.get().unwrap().as_fd(), report));
    write_unread(output, 1, 5000);
    assert_eq!(std::fs::read_to_string(file.path()).unwrap().lines().count(), 5000);

    static CLOSED: OnceLock<PipeWriter> = OnceLock::new();
    CLOSED.get_or_init(|| io::pipe().unwrap().1);
    let output = leaked(Output::new(|| CLOSED.get().unwrap().as_fd(), report));
    let before = output.dropped();
    output.write(b"nobody reads\n".to_vec());
    assert!(output.dropped() > before);
    output.flush(Duration::from_secs(600));
}

#[test]
fn a_slow_disk_never_blocks_and_dropped_lines_are_reported() {
    static DISK: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    fn writer() -> WriteLine {
        Box::new(|line| {
            DISK.lock().unwrap().extend_from_slice(line);
            Ok(())
        })
    }
    let output = leaked(Output::slow(writer, report));
    let slow = DISK.lock().unwrap();
    write_unread(output, 4, 5000);
    assert!(output.queue().lock().bytes <= LIMIT + OVERHEAD);
    drop(slow);

    output.flush(Duration::from_secs(600));
    output.write(b"last\n".to_vec());
    output.flush(Duration::from_secs(600));
    let text = DISK.lock().unwrap();
    let (came, dropped) = read(text.as_slice(), is_whole, "last\n");
    assert!(dropped > 0);
    assert_eq!(came + dropped, 4 * 5000);
    assert_eq!(output.dropped(), dropped);
}
