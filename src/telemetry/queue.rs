//! The queue of log lines: writing to it never blocks and never fails.
//!
//! A reader of the log that hangs, a full disk, or a closed pipe must not stop the router. Lines that do not fit, or
//! that cannot be written, are dropped and counted. The library for this (`tracing-appender`) bounds lines, not bytes,
//! and prints to standard error when it ends, which panics or blocks if standard error is what fails.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

/// Lines that wait to be written.
const QUEUE_LIMIT_LINES: usize = 8192;
/// Bytes that wait to be written.
const QUEUE_LIMIT_BYTES: usize = 4 * 1024 * 1024;
/// A longer line is truncated.
const LINE_LIMIT_BYTES: usize = 64 * 1024;
/// How often `flush` retries while the queue is full.
const FLUSH_RETRY_MILLISECONDS: u64 = 5;
/// Largest size of one write.
const WRITE_LIMIT_BYTES: usize = 256 * 1024;
/// How long the writing thread collects lines. Waking it for each line took a tenth of a busy router's time.
const GATHER: Duration = Duration::from_millis(2);

enum Job {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Accepts log lines. Clones share it.
#[derive(Clone)]
pub(super) struct LogQueue {
    jobs: SyncSender<Job>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    queued_bytes: AtomicUsize,
    dropped_lines: AtomicU64,
}

impl LogQueue {
    /// Starts the thread that writes to `place`; it ends when the last clone of the queue is dropped.
    pub fn start(place: impl Write + Send + 'static) -> io::Result<LogQueue> {
        let (jobs, queue) = sync_channel(QUEUE_LIMIT_LINES);
        let counts = Arc::new(Counts::default());
        let counted = counts.clone();
        std::thread::Builder::new().name("log".into()).spawn(move || write_all(place, &queue, &counted))?;
        Ok(LogQueue { jobs, counts })
    }

    /// Queues one line; drops and counts it if there is no room.
    pub fn put(&self, line: &[u8]) {
        let line = cut(line);
        let length = line.len();
        let before = self.counts.queued_bytes.fetch_add(length, Ordering::Relaxed);
        let has_room = before.saturating_add(length) <= QUEUE_LIMIT_BYTES;
        if !has_room || self.jobs.try_send(Job::Line(line)).is_err() {
            self.counts.queued_bytes.fetch_sub(length, Ordering::Relaxed);
            self.counts.dropped_lines.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that were dropped, or that could not be written.
    pub fn dropped_lines(&self) -> u64 {
        self.counts.dropped_lines.load(Ordering::Relaxed)
    }

    /// Waits until everything queued before was written, at most `limit`.
    pub fn flush(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let (done, written) = sync_channel(1);
        let mut job = Job::Flush(done);
        loop {
            match self.jobs.try_send(job) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) if Instant::now() < deadline => {
                    job = back;
                    std::thread::sleep(Duration::from_millis(FLUSH_RETRY_MILLISECONDS));
                }
                // Lines that are not written by now are lost with the process; waiting longer would delay its end.
                Err(_) => return,
            }
        }
        let _ = written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

/// A line of bounded length with a line feed at its end.
fn cut(line: &[u8]) -> Vec<u8> {
    let mut cut = line[..line.len().min(LINE_LIMIT_BYTES)].to_vec();
    if cut.len() < line.len() {
        let whole = String::from_utf8_lossy(&cut).trim_end_matches('\u{fffd}').len();
        cut.truncate(whole);
        cut.extend_from_slice(b" [cut]\n");
    }
    cut
}

fn write_all(mut place: impl Write, queue: &Receiver<Job>, counts: &Counts) {
    let mut gathered = Gathered::default();
    while let Ok(first) = queue.recv() {
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Job::Line(line) => gathered.add(&line, &mut place, counts),
                Job::Flush(done) => {
                    gathered.write(&mut place, counts);
                    // The waiting caller may have given up.
                    let _ = done.try_send(());
                }
            }
            next = queue.try_recv().ok();
        }
        gathered.write(&mut place, counts);
        std::thread::sleep(GATHER);
    }
}

/// Lines that are written together.
#[derive(Default)]
struct Gathered {
    bytes: Vec<u8>,
    lines: u64,
}

impl Gathered {
    fn add(&mut self, line: &[u8], place: &mut impl Write, counts: &Counts) {
        self.bytes.extend_from_slice(line);
        self.lines += 1;
        if self.bytes.len() >= WRITE_LIMIT_BYTES {
            self.write(place, counts);
        }
    }

    fn write(&mut self, place: &mut impl Write, counts: &Counts) {
        if self.lines > 0 && place.write_all(&self.bytes).is_err() {
            counts.dropped_lines.fetch_add(self.lines, Ordering::Relaxed);
        }
        counts.queued_bytes.fetch_sub(self.bytes.len(), Ordering::Relaxed);
        self.bytes.clear();
        self.lines = 0;
    }
}

/// The subscriber hands over each event as one write.
impl Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Condvar, Mutex};

    const SOON: Duration = Duration::from_secs(10);

    /// A place whose reader stalls until it is opened.
    #[derive(Clone, Default)]
    struct Stalled(Arc<Reader>);

    #[derive(Default)]
    struct Reader {
        /// Whether it reads, and what it has read.
        state: Mutex<(bool, Vec<u8>)>,
        opened: Condvar,
    }

    impl Write for Stalled {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let locked = self.0.state.lock().unwrap();
            let mut state = self.0.opened.wait_while(locked, |(open, _)| !*open).unwrap();
            state.1.extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stalls_holds_nobody_up_and_what_does_not_fit_is_counted() {
        let place = Stalled::default();
        let queue = LogQueue::start(place.clone()).unwrap();
        let line = [b"x".repeat(60 * 1024), b"\n".to_vec()].concat();
        for _ in 0..1000 {
            queue.put(&line);
        }
        assert!(queue.counts.queued_bytes.load(Ordering::Relaxed) <= QUEUE_LIMIT_BYTES);
        let dropped = queue.dropped_lines();
        assert!(dropped >= 900, "{dropped}");
        queue.flush(Duration::from_millis(1));
        place.0.state.lock().unwrap().0 = true;
        place.0.opened.notify_all();
        queue.put(b"last\n");
        queue.flush(SOON);
        assert!(place.0.state.lock().unwrap().1.ends_with(b"last\n"));
        assert_eq!(queue.dropped_lines(), dropped);
    }

    #[test]
    fn a_place_that_cannot_be_written_costs_lines_and_nothing_else() {
        let queue = LogQueue::start(Broken).unwrap();
        queue.put(b"one\n");
        queue.put(b"two\n");
        queue.flush(SOON);
        assert_eq!(queue.dropped_lines(), 2);
        assert_eq!(queue.counts.queued_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_line_without_bound_is_cut_between_two_characters() {
        let line = cut("ä".repeat(LINE_LIMIT_BYTES).as_bytes());
        assert!(line.len() <= LINE_LIMIT_BYTES + 8);
        assert!(String::from_utf8(line).unwrap().ends_with("ä [cut]\n"));
    }
}
