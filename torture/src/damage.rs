//! What is done to the files of a store: one damage, or two.

use std::path::{Path, PathBuf};

use bristlecone::vfs::sim::SimVfs;

use crate::Rng;
use crate::phase::DIR;

/// What is done to the files.
#[derive(Clone, Debug)]
pub(crate) enum Damage {
    Flip {
        file: PathBuf,
        byte: u64,
        bit: u8,
    },
    Cut {
        file: PathBuf,
        len: u64,
    },
    /// More than there was.
    Longer {
        file: PathBuf,
        by: u64,
    },
    /// A stretch of the file is zeros, as where a sector was lost.
    Zeroed {
        file: PathBuf,
        from: u64,
        len: u64,
    },
    /// Two stretches of the file are exchanged, as where writes went astray.
    Swapped {
        file: PathBuf,
        first: u64,
        second: u64,
        len: u64,
    },
    /// A stretch of the file is as it was before, as where a write was lost.
    Stale {
        file: PathBuf,
        from: u64,
        len: u64,
    },
    Removed {
        file: PathBuf,
    },
    Exchanged {
        first: PathBuf,
        second: PathBuf,
    },
    /// Both of them, as where the second copy of what is damaged is gone as well.
    Two(Box<Damage>, Box<Damage>),
}

/// What of the file, from an offset on.
fn part(bytes: &[u8], from: u64, len: u64) -> std::ops::Range<usize> {
    let start = (from as usize).min(bytes.len());
    start..(start + len as usize).min(bytes.len())
}

impl Damage {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Flip { .. } => "bits turned over",
            Self::Cut { .. } => "files cut",
            Self::Longer { .. } => "files made longer",
            Self::Zeroed { .. } => "stretches zeroed",
            Self::Swapped { .. } => "stretches exchanged",
            Self::Stale { .. } => "stretches and files out of date",
            Self::Removed { .. } => "files removed",
            Self::Exchanged { .. } => "files exchanged",
            Self::Two(..) => "two damages",
        }
    }

    /// Does it to `image`; whether that changed anything.
    pub(crate) fn strike(&self, image: &SimVfs, stale: &SimVfs) -> std::io::Result<bool> {
        let rewrite = |file: &Path, change: &dyn Fn(&mut Vec<u8>)| -> std::io::Result<bool> {
            let before = image.read_file(file)?;
            let mut bytes = before.to_vec();
            change(&mut bytes);
            image.write_file(file, &bytes)?;
            Ok(bytes != before)
        };
        match self {
            Self::Flip { file, byte, bit } => image.flip_bit(file, *byte, *bit).map(|()| true),
            Self::Cut { file, len } => image.truncate(file, *len).map(|()| true),
            Self::Longer { file, by } => {
                let len = image.read_file(file)?.len() as u64;
                image.truncate(file, len + by).map(|()| true)
            }
            Self::Zeroed { file, from, len } => rewrite(file, &|bytes| {
                let part = part(bytes, *from, *len);
                bytes[part].fill(0);
            }),
            Self::Swapped { file, first, second, len } => rewrite(file, &|bytes| {
                let (a, b) = (part(bytes, *first, *len), part(bytes, *second, *len));
                let kept = bytes[a.clone()].to_vec();
                let len = kept.len().min(b.len());
                bytes.copy_within(b.start..b.start + len, a.start);
                bytes[b.start..b.start + len].copy_from_slice(&kept[..len]);
            }),
            Self::Stale { file, from, len } => {
                let Ok(old) = stale.read_file(file) else { return Ok(false) };
                rewrite(file, &|bytes| {
                    let part = part(bytes, *from, *len);
                    let end = part.end.min(old.len()).max(part.start);
                    if part.start < end {
                        bytes[part.start..end].copy_from_slice(&old[part.start..end]);
                    }
                    if *from == 0 && *len >= bytes.len() as u64 {
                        bytes.truncate(old.len());
                    }
                })
            }
            Self::Removed { file } => {
                use bristlecone::vfs::Vfs;
                image.remove(file)?;
                image.sync_dir(file.parent().unwrap_or(file)).map(|()| true)
            }
            Self::Exchanged { first, second } => {
                let (a, b) = (image.read_file(first)?, image.read_file(second)?);
                image.write_file(first, &b)?;
                image.write_file(second, &a)?;
                Ok(a != b)
            }
            Self::Two(first, second) => {
                // In this order: the second may be where the first would hide it.
                let second = second.strike(image, stale)?;
                Ok(first.strike(image, stale)? && second)
            }
        }
    }

    pub(crate) fn file(&self) -> &Path {
        match self {
            Self::Flip { file, .. }
            | Self::Cut { file, .. }
            | Self::Longer { file, .. }
            | Self::Zeroed { file, .. }
            | Self::Swapped { file, .. }
            | Self::Stale { file, .. }
            | Self::Removed { file } => file,
            Self::Exchanged { first, .. } => first,
            Self::Two(first, _) => first.file(),
        }
    }
}

/// All that is done to the files of `sim`: bits at every `stride`th byte, one or all of a byte, and the rest in proportion.
pub(crate) fn damages(sim: &SimVfs, seed: u64, stride: u64, all_bits: bool) -> Vec<Damage> {
    let mut rng = Rng::new(seed ^ 0xda);
    let mut out = Vec::new();
    let files = sim.files();
    for file in &files {
        let len = sim.read_file(file).map_or(0, |bytes| bytes.len() as u64);
        let file = || file.clone();
        out.push(Damage::Removed { file: file() });
        out.push(Damage::Longer { file: file(), by: 1 });
        out.push(Damage::Longer { file: file(), by: 5000 });
        if len == 0 {
            continue;
        }
        // The catalog is long and mostly empty, and nothing depends on it.
        let every = if is_catalog(&file()) { stride.max(len / 100) } else { stride };
        let first = rng.next_u64() % every;
        for byte in (first..len).step_by(every as usize) {
            match all_bits {
                true => out.extend((0..8).map(|bit| Damage::Flip { file: file(), byte, bit })),
                false => out.push(Damage::Flip { file: file(), byte, bit: rng.below(8) as u8 }),
            }
            out.push(Damage::Cut { file: file(), len: byte });
        }
        for sector in [64, 512, 4096] {
            let step = (sector * stride.min(8)).max(len / 64);
            for from in (0..len).step_by(step as usize) {
                out.push(Damage::Zeroed { file: file(), from, len: sector });
                out.push(Damage::Stale { file: file(), from, len: sector });
                let second = rng.next_u64() % len / sector * sector;
                out.push(Damage::Swapped { file: file(), first: from, second, len: sector });
            }
        }
        out.push(Damage::Stale { file: file(), from: 0, len });
    }
    let of =
        |part: &'static str| files.iter().filter(move |file| file.starts_with(Path::new(DIR).join(part)));
    for log in of("log") {
        for segment in of("segments") {
            let bytes = sim.read_file(segment).unwrap_or_default();
            let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64;
            let first = rng.next_u64() % (used / 40).max(1);
            for byte in (first..used).step_by((used / 40).max(1) as usize) {
                let len = sim.read_file(log).map_or(0, |bytes| bytes.len() as u64).max(1);
                let flip = |file: &Path, byte: u64| Damage::Flip { file: file.to_owned(), byte, bit: 3 };
                let in_log = match byte % 3 {
                    0 => Damage::Removed { file: log.clone() },
                    _ => flip(log, rng.next_u64() % len),
                };
                out.push(Damage::Two(Box::new(in_log), Box::new(flip(segment, byte))));
            }
        }
    }
    for pair in files.windows(2).filter(|pair| pair[0].parent() == pair[1].parent()) {
        out.push(Damage::Exchanged { first: pair[0].clone(), second: pair[1].clone() });
    }
    out
}

pub(crate) fn is_catalog(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("catalog"))
}
