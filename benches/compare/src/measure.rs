//! Histograms, and what the system says of this process and of a directory.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::failure::{Failure, Result};

/// The longest time that is told apart, in nanoseconds.
const LONGEST: u64 = 600_000_000_000;

/// The quantiles of a distribution curve. Figures of different runs are put together place by place.
pub(crate) const QUANTILES: [f64; 14] =
    [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9999, 1.0];

/// Times of one kind.
#[derive(Debug)]
pub(crate) struct Times(Histogram<u64>);

/// Percentiles in milliseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Milliseconds {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
    /// At [`QUANTILES`].
    pub(crate) curve: Vec<f64>,
}

/// Percentiles in nanoseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Nanoseconds {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
    /// At [`QUANTILES`].
    pub(crate) curve: Vec<u64>,
}

impl Times {
    pub(crate) fn new() -> Result<Self> {
        Histogram::new_with_bounds(1, LONGEST, 3)
            .map(Self)
            .map_err(|error| Failure::new(format!("cannot make a histogram: {error}")))
    }

    #[inline]
    pub(crate) fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn milliseconds(&self) -> Milliseconds {
        if self.is_empty() {
            return Milliseconds::default();
        }
        // Microseconds are more than the clock is good for.
        let at = |quantile: f64| (self.0.value_at_quantile(quantile) as f64 / 1e3).round() / 1e3;
        Milliseconds { p50: at(0.5), p99: at(0.99), max: at(1.0), curve: QUANTILES.map(at).to_vec() }
    }

    pub(crate) fn nanoseconds(&self) -> Nanoseconds {
        if self.is_empty() {
            return Nanoseconds::default();
        }
        let at = |quantile: f64| self.0.value_at_quantile(quantile);
        let curve = QUANTILES.map(at).to_vec();
        Nanoseconds { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1.0), curve }
    }
}

/// What it costs to read the clock twice with nothing in between: part of every time of a single read.
pub(crate) fn clock_nanoseconds() -> Result<u64> {
    let mut times = Times::new()?;
    for _ in 0..100_000 {
        let begun = Instant::now();
        times.record(begun.elapsed());
    }
    Ok(times.nanoseconds().p50)
}

/// `count` a second; 0 where nothing took any time.
pub(crate) fn rate(count: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() { 0.0 } else { count as f64 / elapsed.as_secs_f64() }
}

/// The number after `name` in text of lines such as `VmRSS:  1234 kB`; 0 where there is none.
fn number_of(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.trim_start_matches(':').split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Memory of this process that no file stands behind, in bytes; 0 where the system does not tell.
pub(crate) fn anonymous_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    number_of(&text, "VmRSS").saturating_sub(number_of(&text, "RssFile")) * 1024
}

/// Bytes that this process caused to be written to a device; 0 where the system does not tell.
pub(crate) fn written_bytes() -> u64 {
    number_of(&fs::read_to_string("/proc/self/io").unwrap_or_default(), "write_bytes")
}

/// Bytes that this process passed to write calls; writes through maps and io_uring are not among them. 0 where the system
/// does not tell.
pub(crate) fn passed_bytes() -> u64 {
    number_of(&fs::read_to_string("/proc/self/io").unwrap_or_default(), "wchar")
}

/// Syncs every file in `dir` and below, so that nothing is still to be written.
pub(crate) fn sync_files(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_files(&path)?;
            continue;
        }
        match fs::File::open(&path) {
            Ok(file) => file.sync_all()?,
            // A file may be recycled or replaced while we look.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::new(format!("cannot open {}: {error}", path.display()))),
        }
    }
    Ok(())
}

/// Bytes allocated to the files in `dir` and below, the directories named `apart` left out.
pub(crate) fn allocated_bytes(dir: &Path, apart: &[&str]) -> Result<u64> {
    let io = |error: std::io::Error| Failure::new(format!("cannot read {}: {error}", dir.display()));
    let mut bytes = 0;
    for entry in fs::read_dir(dir).map_err(io)? {
        let entry = entry.map_err(io)?;
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(io(error)),
        };
        bytes += match metadata.is_dir() {
            true if apart.iter().any(|name| entry.file_name() == *name) => 0,
            true => allocated_bytes(&entry.path(), apart)?,
            // st_blocks counts 512 bytes, whatever the file system's blocks are.
            false => std::os::unix::fs::MetadataExt::blocks(&metadata) * 512,
        };
    }
    Ok(bytes)
}

/// Looks at the memory of this process every few milliseconds and keeps the most since it was last asked.
#[derive(Debug)]
pub(crate) struct MemoryWatch {
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

const LOOK_EVERY: Duration = Duration::from_millis(20);

impl MemoryWatch {
    pub(crate) fn start() -> Self {
        let (peak, stop) = (Arc::new(AtomicU64::new(anonymous_bytes())), Arc::new(AtomicBool::new(false)));
        let (to, until) = (peak.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                to.fetch_max(anonymous_bytes(), Ordering::Relaxed);
                std::thread::sleep(LOOK_EVERY);
            }
        });
        Self { peak, stop, thread: Some(thread) }
    }

    /// The peak since the last call.
    pub(crate) fn take(&self) -> u64 {
        let now = anonymous_bytes();
        self.peak.swap(now, Ordering::Relaxed).max(now)
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut times = Times::new().unwrap();
        assert_eq!(times.nanoseconds().p999, 0);
        for nanoseconds in 1..=1000 {
            times.record(Duration::from_nanos(nanoseconds));
        }
        let found = times.nanoseconds();
        assert!(found.p50.abs_diff(500) <= 1 && found.p99.abs_diff(990) <= 1);
        assert_eq!(found.curve.len(), QUANTILES.len());
        times.record(Duration::from_millis(12));
        assert!((times.milliseconds().max - 12.0).abs() < 0.02);
    }

    #[test]
    fn the_system_tells_of_memory_and_files() {
        let watch = MemoryWatch::start();
        assert!(watch.take() > 0);
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/b"), vec![1; 10_000]).unwrap();
        sync_files(dir.path()).unwrap();
        assert!(allocated_bytes(dir.path(), &[]).unwrap() >= 8192);
        assert_eq!(allocated_bytes(dir.path(), &["a"]).unwrap(), 0);
        assert!(allocated_bytes(&dir.path().join("no"), &[]).is_err());
    }
}
