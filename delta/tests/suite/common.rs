//! Stores on the simulated disk, for the tests.

use std::path::Path;
use std::sync::Arc;

use bristlecone_delta::vfs::sim::SimVfs;
use bristlecone_delta::{
    Create, Locator, LogPosition, Opened, Options, Result, Seal, SealedNamespace, SealedVersion, Stamp, open,
};
use bristlecone_trie::{B256, Entry, Item, Page, PageBuilder};

pub(crate) const DIR: &str = "/store";

/// Files as small as they get, so that segments and log files change often.
pub(crate) fn small() -> Options {
    Options {
        create: Some(Create { id: [7; 16], config: b"configuration".to_vec() }),
        segment_bytes: 2048,
        log_bytes: 1024,
        ..Options::default()
    }
}

pub(crate) fn open_in(sim: &SimVfs, options: &Options) -> Result<Opened> {
    open(Arc::new(sim.clone()), Path::new(DIR), options)
}

pub(crate) fn stamp(opening: u32, version: u64) -> Stamp {
    Stamp::new(opening, version + 1).unwrap()
}

/// A root page with one leaf that tells the version.
pub(crate) fn page_of(version: u64, stamp: Stamp) -> Vec<u8> {
    let mut builder = PageBuilder::new(0);
    for key in 0..4u8 {
        let value = if u64::from(key) == version % 4 { version.to_be_bytes() } else { [key; 8] };
        let item = Item::Leaf { stamp: stamp.word(), value: &value };
        builder.push(&Entry { below: false, end: 4, tail: &[key, 1], item });
    }
    builder.finish()
}

pub(crate) fn payload(version: u64) -> Vec<u8> {
    let mut out = version.to_be_bytes().to_vec();
    out.resize(8 + (version as usize * 37) % 200, version as u8);
    out
}

/// Seals `versions` as one run.
pub(crate) fn seal(
    opened: &mut Opened,
    versions: &[(u64, Stamp, LogPosition)],
    previous: Option<(Locator, Locator)>,
) -> Result<(Locator, Locator)> {
    let (last, last_stamp, log_position) = *versions.last().unwrap();
    let writer = opened.writer.as_mut().unwrap();
    let mut group = writer.begin(opened.opening)?;
    let root = group.put_page(previous.map(|(_, page)| page), Page::new(&page_of(last, last_stamp)), &[])?;
    let root = root.newest();
    let record = Seal {
        previous: previous.map(|(seal, _)| seal),
        opening: opened.opening,
        versions: versions
            .iter()
            .map(|(version, stamp, _)| SealedVersion {
                version: *version,
                stamp: *stamp,
                parent: None,
                root: None,
                namespace_roots: vec![None],
            })
            .collect(),
        namespaces: vec![SealedNamespace {
            root_page: Some(root),
            root_node: B256::repeat_byte(last as u8),
            table: None,
        }],
        log_position,
        ..Seal::default()
    };
    let sealed = group.finish(&record)?;
    opened.log.as_mut().unwrap().release(&sealed)?;
    Ok((sealed.locator(), root))
}

/// A small random number generator whose seed replays a test.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}
