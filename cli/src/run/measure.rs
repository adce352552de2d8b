//! Histograms, and what the system says of this process and of the directory.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::failure::Failure;

/// The longest time that is told apart, in nanoseconds.
const LONGEST: u64 = 600_000_000_000;

/// Times of one kind.
#[derive(Debug)]
pub(crate) struct Times(Histogram<u64>);

/// Percentiles in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Milliseconds {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

/// Percentiles in nanoseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Nanoseconds {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
}

impl Times {
    pub(crate) fn new() -> Result<Self, Failure> {
        Histogram::new_with_bounds(1, LONGEST, 3)
            .map(Self)
            .map_err(|error| Failure::new(format!("cannot make a histogram: {error}")))
    }

    #[inline]
    pub(crate) fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1));
    }

    pub(crate) fn add(&mut self, other: &Self) -> Result<(), Failure> {
        self.0.add(&other.0).map_err(|error| Failure::new(error.to_string()))
    }

    pub(crate) fn milliseconds(&self) -> Milliseconds {
        if self.0.is_empty() {
            return Milliseconds::default();
        }
        // Microseconds are more than the clock is good for.
        let at = |quantile: f64| (self.0.value_at_quantile(quantile) as f64 / 1e3).round() / 1e3;
        Milliseconds { p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }

    pub(crate) fn nanoseconds(&self) -> Nanoseconds {
        if self.0.is_empty() {
            return Nanoseconds::default();
        }
        let at = |quantile: f64| self.0.value_at_quantile(quantile);
        Nanoseconds { p50: at(0.5), p99: at(0.99), p999: at(0.999) }
    }
}

/// The number after `name` in a file of lines such as `VmHWM:  1234 kB`; 0 where the system has no such file.
fn line_of(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.trim_start_matches(':').split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The most memory that this process ever had, in bytes; 0 where the system does not tell.
pub(crate) fn peak_rss_bytes() -> u64 {
    line_of("/proc/self/status", "VmHWM") * 1024
}

/// The most memory of its own that this process had whenever it was asked; 0 where the system does not tell.
pub(crate) fn peak_anonymous_bytes() -> u64 {
    static PEAK: AtomicU64 = AtomicU64::new(0);
    let now = line_of("/proc/self/status", "RssAnon") * 1024;
    PEAK.fetch_max(now, Ordering::Relaxed).max(now)
}

/// Bytes that this process passed to write calls; 0 where the system does not tell. (What the system says of bytes for the device counts large folios of
/// the page cache as a whole, however little of one was written.)
pub(crate) fn written_bytes() -> u64 {
    line_of("/proc/self/io", "wchar")
}

/// Bytes allocated to the files in `dir` and below, the directories named `apart` left out.
pub(crate) fn allocated_bytes(dir: &Path, apart: &[&str]) -> Result<u64, Failure> {
    let io = |error: std::io::Error| Failure::new(format!("cannot read {}: {error}", dir.display()));
    let mut bytes = 0;
    for entry in fs::read_dir(dir).map_err(io)? {
        let entry = entry.map_err(io)?;
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // A file may be recycled or replaced while we look.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(io(error)),
        };
        bytes += match metadata.is_dir() {
            true if apart.iter().any(|name| entry.file_name() == *name) => 0,
            true => allocated_bytes(&entry.path(), apart)?,
            false => allocated(&metadata),
        };
    }
    Ok(bytes)
}

#[cfg(unix)]
fn allocated(metadata: &fs::Metadata) -> u64 {
    // st_blocks counts 512 bytes, whatever the file system's blocks are.
    std::os::unix::fs::MetadataExt::blocks(metadata) * 512
}

#[cfg(not(unix))]
fn allocated(metadata: &fs::Metadata) -> u64 {
    metadata.len()
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
        assert!(
            found.p50.abs_diff(500) <= 1 && found.p99.abs_diff(990) <= 1 && found.p999.abs_diff(999) <= 1
        );
        times.record(Duration::from_millis(12));
        assert!((times.milliseconds().max - 12.0).abs() < 0.02);
    }

    #[test]
    fn the_directory_is_walked_whole() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/b"), vec![1; 10_000]).unwrap();
        assert!(allocated_bytes(dir.path(), &[]).unwrap() >= 8192);
        assert_eq!(allocated_bytes(dir.path(), &["a"]).unwrap(), 0);
        assert!(allocated_bytes(&dir.path().join("no"), &[]).is_err());
    }
}
