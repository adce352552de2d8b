//! Finding out, from the files alone, which groups there are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::group::Group;
use super::header::{GroupHeader, SegmentEnd, SegmentHeader};
use super::writer::create_whole;
use super::{Compacted, CompactedHeader, Segment, Segments, segment_number, segment_path};
use crate::checksum::Checker;
use crate::error::At;
use crate::format::{
    COMPACTED_HEADER_BYTES, COMPACTED_MAGIC, FIRST_GROUP, GROUP_ALIGN, GROUP_HEADER_BYTES, STORE_ID_BYTES,
};
use crate::vfs::{OpenMode, Vfs, VfsFile};
use crate::{Error, Locator, Result};

/// Bytes copied at a time.
const COPY_BYTES: u64 = 4 << 20;

/// A group that was found: its header is right and follows the group before it. Its records were not looked at.
#[derive(Clone, Copy, Debug)]
struct FoundGroup {
    header: GroupHeader,
    start: u64,
    sum: u64,
}

#[derive(Clone, Debug)]
struct FoundSegment {
    header: SegmentHeader,
    path: PathBuf,
    file: Arc<dyn VfsFile>,
    len: u64,
    groups: Vec<FoundGroup>,
    /// Where it was compacted: what it says of its groups.
    compacted: Option<CompactedHeader>,
}

impl FoundSegment {
    fn end(&self) -> SegmentEnd {
        if let Some(compacted) = &self.compacted {
            return compacted.end;
        }
        let last = self.groups.last();
        last.map_or(self.header.predecessor, |group| {
            group.header.end(self.header.number, group.start, group.sum)
        })
    }

    /// Where the next group would start.
    fn next_start(&self) -> u64 {
        if self.groups.is_empty() && self.compacted.is_none() { FIRST_GROUP } else { self.end().offset }
    }

    fn next_record(&self) -> u32 {
        self.groups.last().map_or(0, |group| group.header.first + group.header.records)
    }

    /// Whether `group` can be seen in `file`, opened earlier.
    fn shows(&self, file: &Arc<dyn VfsFile>, group: &FoundGroup) -> bool {
        let (mut here, mut there) = ([0; GROUP_HEADER_BYTES], [0; GROUP_HEADER_BYTES]);
        file.read_exact_at(&mut there, group.start).is_ok()
            && self.file.read_exact_at(&mut here, group.start).is_ok()
            && here == there
    }

    /// Makes `groups` of it visible to readers of `segment`.
    fn publish(&self, groups: &[FoundGroup], segment: &Segment) -> Result<()> {
        groups.iter().try_for_each(|group| {
            let end = group.header.end(self.header.number, group.start, group.sum);
            segment.publish(group.header, group.start, end)
        })
    }
}

/// What the segment files hold.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    dir: PathBuf,
    segments: Vec<FoundSegment>,
    /// The greatest opening that any header names.
    pub(crate) opening: u32,
}

/// Reads the headers of all segments in `dir` and of their groups.
///
/// Damage is told from a torn tail here, except at the very end: a group that is followed by anything was durable before
/// that was written.
pub(crate) fn scan(
    vfs: &dyn Vfs,
    dir: &Path,
    id: &[u8; STORE_ID_BYTES],
    checker: &Checker,
    mode: OpenMode,
) -> Result<Scan> {
    let mut scan = Scan::empty(dir);
    scan.read(vfs, id, checker, mode)?;
    Ok(scan)
}

/// The same up to where something is damaged, if anything is.
///
/// # Errors
/// What is no damage.
pub(crate) fn scan_so_far(
    vfs: &dyn Vfs,
    dir: &Path,
    id: &[u8; STORE_ID_BYTES],
    checker: &Checker,
    mode: OpenMode,
) -> Result<Scan> {
    let mut scan = Scan::empty(dir);
    match scan.read(vfs, id, checker, mode) {
        Ok(()) | Err(Error::Corrupt { .. }) => Ok(scan),
        Err(error) => Err(error),
    }
}

/// Reads the header of a segment.
fn find_segment(
    vfs: &dyn Vfs,
    dir: &Path,
    (number, id): (u32, &[u8; STORE_ID_BYTES]),
    checker: &Checker,
    mode: OpenMode,
) -> Result<FoundSegment> {
    let path = segment_path(dir, number);
    let file = vfs.open(&path, mode).at("open", &path)?;
    let len = file.len().at("look at", &path)?;
    let mut bytes = vec![0; COMPACTED_HEADER_BYTES.min(usize::try_from(len).unwrap_or(usize::MAX))];
    file.read_exact_at(&mut bytes, 0).at("read", &path)?;
    if bytes.starts_with(&COMPACTED_MAGIC) {
        let compacted = CompactedHeader::decode(&bytes, number, id, checker, &path)?;
        if compacted.len().is_none_or(|expected| len < expected) {
            return Err(Error::corrupt(&path, len, "a compacted segment is cut off"));
        }
        let CompactedHeader { number, opening, predecessor, .. } = compacted;
        let header = SegmentHeader { number, opening, predecessor };
        return Ok(FoundSegment { header, path, file, len, groups: Vec::new(), compacted: Some(compacted) });
    }
    let header = SegmentHeader::decode(&bytes, number, id, checker, &path)?;
    if len < FIRST_GROUP {
        return Err(Error::corrupt(&path, len, "a segment is cut off in its header"));
    }
    Ok(FoundSegment { header, path, file, len, groups: Vec::new(), compacted: None })
}

/// Follows the chain of groups in one segment as far as it goes.
fn find_groups(found: &mut FoundSegment, checker: &Checker) -> Result<()> {
    if found.compacted.is_some() {
        return Ok(());
    }
    let mut bytes = [0; GROUP_HEADER_BYTES];
    loop {
        let start = found.next_start();
        if start.saturating_add(GROUP_HEADER_BYTES as u64) > found.len {
            return Ok(());
        }
        found.file.read_exact_at(&mut bytes, start).at("read", &found.path)?;
        let Some((header, sum)) = GroupHeader::decode(&bytes, checker, found.header.number, start) else {
            return Ok(());
        };
        if header.predecessor != found.end() || header.first != found.next_record() {
            return Err(Error::corrupt(&found.path, start, "a group does not follow the one before it"));
        }
        if header.end(found.header.number, start, sum).offset > found.len {
            return Ok(());
        }
        found.groups.push(FoundGroup { header, start, sum });
    }
}

impl Scan {
    fn empty(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), segments: Vec::new(), opening: 0 }
    }

    /// Takes in what is there, up to the first error.
    fn read(
        &mut self,
        vfs: &dyn Vfs,
        id: &[u8; STORE_ID_BYTES],
        checker: &Checker,
        mode: OpenMode,
    ) -> Result<()> {
        let dir = self.dir.clone();
        if !vfs.exists(&dir).at("look at", &dir)? {
            return Ok(());
        }
        let paths = vfs.read_dir(&dir).at("list", &dir)?;
        if mode == OpenMode::Write {
            // Files in the making: they mean nothing, and take space.
            for path in paths.iter().filter(|path| path.extension().is_some_and(|end| end == "tmp")) {
                vfs.remove(path).at("remove", path)?;
            }
        }
        let mut numbers: Vec<u32> = paths.iter().filter_map(|path| segment_number(path)).collect();
        numbers.sort_unstable();
        for (number, expected) in numbers.into_iter().zip(1..) {
            if number != expected {
                return Err(Error::corrupt(&segment_path(&dir, expected), 0, "a segment is missing"));
            }
            let mut found = find_segment(vfs, &dir, (number, id), checker, mode)?;
            self.check_follows(&found.header)?;
            let groups = find_groups(&mut found, checker);
            self.opening = self.opening.max(found.header.opening);
            self.opening = found.groups.iter().fold(self.opening, |max, group| max.max(group.header.opening));
            self.segments.push(found);
            groups?;
        }
        Ok(())
    }

    /// Where the groups end.
    pub(crate) fn end(&self) -> SegmentEnd {
        self.segments.last().map_or(SegmentEnd::default(), FoundSegment::end)
    }

    /// A segment is begun only when all groups before it are durable, and names their end.
    fn check_follows(&self, header: &SegmentHeader) -> Result<()> {
        let end = self.end();
        if header.predecessor == end {
            return Ok(());
        }
        let (path, offset) = self.place_of_end();
        Err(Error::corrupt(&path, offset, "the groups of a segment end before those after it say"))
    }

    /// Whether the groups go as far as `mark`, where they were known to be durable.
    pub(crate) fn check_reaches(&self, mark: &SegmentEnd) -> Result<()> {
        if *mark == self.end() || self.end().is_after(mark) {
            return Ok(());
        }
        let (path, offset) = self.place_of_end();
        Err(Error::corrupt(&path, offset, "a group that was durable is damaged, or not there"))
    }

    /// Where the chain of groups stops, for messages.
    pub(crate) fn place_of_end(&self) -> (PathBuf, u64) {
        match self.segments.last() {
            Some(last) => (last.path.clone(), last.next_start()),
            None => (segment_path(&self.dir, 1), 0),
        }
    }

    /// Where the last records of groups are, the newest group first: each a seal.
    pub(crate) fn last_records(&self) -> Vec<Locator> {
        let of = |segment: &FoundSegment| {
            let number = segment.header.number;
            let last = |group: &FoundGroup| {
                Locator::new(number, (group.header.first + group.header.records).checked_sub(1)?)
            };
            segment.groups.iter().rev().filter_map(last).collect::<Vec<_>>()
        };
        self.segments.iter().rev().flat_map(of).collect()
    }

    /// Forgets the groups after the one that `last` is the last record of; all of them without one.
    pub(crate) fn cut_after(&mut self, last: Option<Locator>) {
        let number = last.map_or(0, Locator::segment);
        self.segments.retain(|segment| segment.header.number <= number);
        if let (Some(segment), Some(last)) = (self.segments.last_mut(), last) {
            segment.groups.retain(|group| group.header.first <= last.record());
        }
    }

    /// Where the last record is: the last one of the last group.
    pub(crate) fn last_record(&self) -> Option<Locator> {
        let last = self.segments.iter().rfind(|segment| !segment.groups.is_empty())?;
        Locator::new(last.header.number, last.next_record().checked_sub(1)?)
    }

    /// Looks at the last group, which may be torn unless it is `proven` that it was durable, and forgets it if it is. Where
    /// something later shows that what is torn was not the last, that is damage.
    pub(crate) fn settle_tail(&mut self, proven: bool, checker: &Checker) -> Result<()> {
        let Some(last) = self.segments.last_mut() else { return Ok(()) };
        if last.compacted.is_some() {
            let what = "a segment is compacted, and there is none after it";
            return Err(Error::corrupt(&last.path, 0, what));
        }
        if let Some(group) = last.groups.last().copied().filter(|_| !proven) {
            let mapped = Group::open(&*last.file, &last.path, group.header, group.start)?;
            let number = |index| group.header.first + index;
            match mapped.verify_all(number, last.header.number, checker, &last.path) {
                Err(Error::Corrupt { .. }) => drop(last.groups.pop()),
                other => other?,
            }
        }
        let stop = last.next_start();
        if later_header(last, stop, checker)? {
            return Err(Error::corrupt(
                &last.path,
                stop,
                "a group is damaged, and there are groups after it",
            ));
        }
        Ok(())
    }

    /// Copies the last segment as far as it counts into a new file and makes that durable in its place: what an
    /// earlier, failed sync left in the page cache only is then written once more, and torn bytes are gone.
    pub(crate) fn copy_tail(&mut self, vfs: &dyn Vfs, segment_bytes: u64) -> Result<()> {
        let Some(last) = self.segments.last_mut() else { return Ok(()) };
        let used = last.next_start();
        let len = segment_bytes.max(used);
        let (from, from_path) = (Arc::clone(&last.file), last.path.clone());
        last.file = create_whole(vfs, &self.dir, &last.path, len, None, |file, path| {
            copy((&*from, &from_path), (file, path), used)
        })?;
        last.len = len;
        Ok(())
    }

    /// Makes the names of the segments durable.
    pub(crate) fn sync_names(&self, vfs: &dyn Vfs) -> Result<()> {
        vfs.sync_dir(&self.dir).at("sync", &self.dir)
    }

    /// The newest segment, or 0, and the number of the next record in it.
    pub(crate) fn newest(&self) -> (u32, u32) {
        self.segments.last().map_or((0, 0), |last| (last.header.number, last.next_record()))
    }

    /// Opens for reading what was found.
    pub(crate) fn publish(self, checker: Checker) -> Result<Segments> {
        let segments = Segments::new(checker);
        self.add_to(&segments)?;
        Ok(segments)
    }

    /// Opens for reading what was found and `segments` has not.
    pub(crate) fn add_to(self, segments: &Segments) -> Result<()> {
        for found in self.segments {
            let known = segments.segment(found.header.number);
            let add = |segment: Segment| match &known {
                Some(_) => segments.replace(segment),
                None => drop(segments.push(segment)),
            };
            if let Some(header) = found.compacted {
                if known.as_ref().and_then(|known| known.generation()) != Some(header.generation) {
                    let compacted = Compacted::open(&*found.file, &found.path, header)?;
                    add(Segment::compacted(found.path, compacted));
                }
                continue;
            }
            let have = known.as_ref().map_or(0, |known| known.groups());
            let missing = found.groups.get(have..).unwrap_or_default();
            match (&known, missing.first()) {
                (Some(_), None) => {}
                // In the file that is mapped already, unless another was put in its place.
                (Some(known), Some(first)) if known.file().is_some_and(|file| found.shows(file, first)) => {
                    found.publish(missing, known)?;
                }
                _ => {
                    let segment = Segment::new(found.header, found.path.clone(), Arc::clone(&found.file));
                    found.publish(&found.groups, &segment)?;
                    add(segment);
                }
            }
        }
        Ok(())
    }

    /// The newest segment, or 0, and where its next group will start.
    pub(crate) fn goes_on(&self) -> (u32, u64) {
        self.segments.last().map_or((0, 0), |last| (last.header.number, last.next_start()))
    }
}

/// Copies the first `len` bytes of a file.
fn copy(from: (&dyn VfsFile, &Path), to: (&dyn VfsFile, &Path), len: u64) -> Result<()> {
    let mut buffer = Vec::new();
    let mut at = 0;
    while at < len {
        buffer.resize(COPY_BYTES.min(len - at) as usize, 0);
        from.0.read_exact_at(&mut buffer, at).at("read", from.1)?;
        to.0.write_all_at(&buffer, at).at("write", to.1)?;
        at += buffer.len() as u64;
    }
    Ok(())
}

/// Makes a durable copy of the file at `path` in the directory `dir`, under `name`.
pub(crate) fn copy_file(vfs: &dyn Vfs, path: &Path, dir: &Path, name: &Path) -> Result<()> {
    let from = vfs.open(path, OpenMode::Read).at("open", path)?;
    let len = from.len().at("look at", path)?;
    create_whole(vfs, dir, name, len, None, |file, to| copy((&*from, path), (file, to), len)).map(drop)
}

/// Whether any group was written to `segment` behind `stop`. Its header is written only when all groups before it
/// are durable.
fn later_header(segment: &FoundSegment, stop: u64, checker: &Checker) -> Result<bool> {
    let from = stop.saturating_add(GROUP_ALIGN);
    let Some(left) = segment.len.checked_sub(from).filter(|left| *left > 0) else { return Ok(false) };
    let bytes = segment.file.map(from, left).at("map", &segment.path)?;
    Ok(bytes
        .chunks(GROUP_ALIGN as usize)
        .zip((from..).step_by(GROUP_ALIGN as usize))
        .any(|(chunk, start)| GroupHeader::decode(chunk, checker, segment.header.number, start).is_some()))
}
