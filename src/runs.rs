//! The list of sealed runs: immutable, replaced as a whole, read without a lock.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bristlecone_delta::{Locator, Seal, SealedNamespace, SealedVersion, Segments, Stamp};
use bristlecone_trie::B256;

use crate::{Error, Result};

/// Runs that are copied, at most, where one is added; so many times fewer chunks are copied with them.
const CHUNK: usize = 128;

/// A sealed run of versions.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) locator: Locator,
    pub(crate) seal: Seal,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) end: Stamp,
}

impl Run {
    pub(crate) fn new(locator: Locator, seal: Seal) -> Result<Self> {
        let (Some(first), Some(last)) = (seal.versions.first(), seal.versions.last()) else {
            return Err(Error::Damaged {
                what: format!("the seal at record {locator:?}, without a version,"),
            });
        };
        let (first, end, last) = (first.version, last.stamp, last.version);
        Ok(Self { locator, seal, first, last, end })
    }

    /// Memory that it takes, in bytes.
    fn size(&self) -> usize {
        let versions = self.seal.versions.iter();
        size_of::<Self>()
            + self.seal.versions.capacity() * size_of::<SealedVersion>()
            + versions.map(|v| v.namespace_roots.capacity() * size_of::<Option<B256>>()).sum::<usize>()
            + self.seal.namespaces.capacity() * size_of::<SealedNamespace>()
    }

    /// The root page of namespace `at` at the end of the run.
    pub(crate) fn root(&self, at: usize) -> Option<Locator> {
        self.seal.namespaces.get(at).and_then(|namespace| namespace.root_page)
    }

    pub(crate) fn table(&self, at: usize) -> Option<Locator> {
        self.seal.namespaces.get(at).and_then(|namespace| namespace.table)
    }
}

/// A sealed version: its run, its place in it, and the run before, on which those inside the run stand. All that reading it needs, whatever
/// becomes of the list.
#[derive(Clone, Debug)]
pub(crate) struct Past {
    pub(crate) run: Arc<Run>,
    pub(crate) before: Option<Arc<Run>>,
    at: usize,
    stamp: Stamp,
}

impl Past {
    pub(crate) fn new(run: Arc<Run>, before: Option<Arc<Run>>, version: u64) -> Option<Self> {
        let at = run.seal.versions.binary_search_by_key(&version, |sealed| sealed.version).ok()?;
        let stamp = run.seal.versions.get(at)?.stamp;
        Some(Self { run, before, at, stamp })
    }

    pub(crate) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// What the seal says of the version.
    pub(crate) fn sealed(&self) -> Option<&SealedVersion> {
        self.run.seal.versions.get(self.at)
    }

    /// Whether its run ends with it, so that stored pages show it as it is.
    pub(crate) fn is_end(&self) -> bool {
        self.stamp >= self.run.end
    }
}

/// Some runs in a row: never empty, and shared by the lists before and after a change elsewhere.
type Chunk = Arc<[Arc<Run>]>;

/// The runs at one moment.
#[derive(Debug, Default)]
pub(crate) struct List {
    /// The run before the first: it holds no version that is kept, but versions inside the first stand on it.
    before: Option<Arc<Run>>,
    chunks: Vec<Chunk>,
    len: usize,
}

impl List {
    /// The list of `runs`, oldest first.
    fn new(before: Option<Arc<Run>>, runs: &[Arc<Run>]) -> Self {
        Self { before, chunks: runs.chunks(CHUNK).map(Chunk::from).collect(), len: runs.len() }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// All runs, oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Run>> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    pub(crate) fn first(&self) -> Option<&Arc<Run>> {
        self.chunks.first()?.first()
    }

    pub(crate) fn last(&self) -> Option<&Arc<Run>> {
        self.chunks.last()?.last()
    }

    /// The first chunk that ends with `version` or later, and the first such run in it.
    fn place(&self, version: u64) -> (usize, usize) {
        let ends_before = |chunk: &Chunk| chunk.last().is_some_and(|run| run.last < version);
        let at = self.chunks.partition_point(ends_before);
        (at, self.chunks.get(at).map_or(0, |chunk| chunk.partition_point(|run| run.last < version)))
    }

    /// A sealed version.
    pub(crate) fn find(&self, version: u64) -> Option<Past> {
        let (chunk, at) = self.place(version);
        let run = self.chunks.get(chunk)?.get(at)?;
        let before = match at.checked_sub(1) {
            Some(before) => self.chunks.get(chunk)?.get(before),
            None => chunk.checked_sub(1).and_then(|chunk| self.chunks.get(chunk)?.last()),
        };
        Past::new(run.clone(), before.or(self.before.as_ref()).cloned(), version)
    }

    /// The runs from that of `version` on backwards.
    pub(crate) fn back_from(&self, version: u64) -> impl Iterator<Item = &Arc<Run>> {
        let (at, within) = self.place(version);
        let first = self.chunks.get(at).and_then(|chunk| chunk.get(..=within)).unwrap_or_default();
        let others = self.chunks.get(..at).unwrap_or_default().iter().rev();
        first.iter().rev().chain(others.flat_map(|chunk| chunk.iter().rev()))
    }

    /// The version that `stamp` made.
    fn version_of(&self, stamp: Stamp) -> Option<u64> {
        let at = self.chunks.partition_point(|chunk| chunk.last().is_some_and(|run| run.end < stamp));
        let chunk = self.chunks.get(at)?;
        let versions = &chunk.get(chunk.partition_point(|run| run.end < stamp))?.seal.versions;
        let at = versions.binary_search_by_key(&stamp, |sealed| sealed.stamp).ok()?;
        versions.get(at).map(|sealed| sealed.version)
    }

    /// The list with `run` behind those that end before its first version; what stood there in place of it is no longer in it.
    fn with(&self, run: Arc<Run>) -> Self {
        let (at, within) = self.place(run.first);
        let mut chunks = self.chunks.get(..at).unwrap_or_default().to_vec();
        let kept = self.chunks.get(at).and_then(|chunk| chunk.get(..within)).unwrap_or_default();
        let mut last = match chunks.last() {
            // All of the chunks before are whole: the last of them may have room.
            Some(before) if kept.is_empty() && before.len() < CHUNK => {
                let runs = before.to_vec();
                chunks.pop();
                runs
            }
            _ => kept.to_vec(),
        };
        last.push(run);
        chunks.push(last.into());
        let len: usize = chunks.iter().map(|chunk| chunk.len()).sum();
        Self { before: self.before.clone(), chunks, len }
    }

    /// The list without the runs that end before `version`.
    fn from(&self, version: u64) -> Self {
        let (at, within) = self.place(version);
        let cut = self.chunks.get(at).and_then(|chunk| chunk.get(within..)).filter(|rest| !rest.is_empty());
        let whole = self.chunks.get(at + 1..).unwrap_or_default().iter().cloned();
        let chunks: Vec<Chunk> = cut.map(Chunk::from).into_iter().chain(whole).collect();
        let len: usize = chunks.iter().map(|chunk| chunk.len()).sum();
        let gone = self.len - len;
        let before = gone.checked_sub(1).and_then(|last| self.iter().nth(last)).or(self.before.as_ref());
        Self { before: before.cloned(), chunks, len }
    }
}

/// All sealed runs, in order.
#[derive(Debug, Default)]
pub(crate) struct Runs(ArcSwap<List>);

impl Runs {
    /// The list of `runs`, oldest first.
    pub(crate) fn new(runs: &[Arc<Run>]) -> Self {
        Self(ArcSwap::from_pointee(List::new(None, runs)))
    }

    /// The runs with versions from `oldest` on, by walking back from the last seal; and those that went, oldest first, after the one with the seal
    /// `through`: what died in those before was taken in.
    pub(crate) fn walk(
        segments: &Segments,
        last: Option<Locator>,
        oldest: u64,
        through: Option<Locator>,
    ) -> Result<(Self, Vec<Arc<Run>>)> {
        let (mut runs, mut gone, mut before) = (Vec::new(), Vec::new(), None);
        let mut next = last;
        while let Some(locator) = next {
            let is_wanted = before.is_none() || through.is_none_or(|through| locator > through);
            if !is_wanted {
                break;
            }
            let seal = match segments.seal(locator) {
                // It went with what it said, and the note of that was lost.
                Err(bristlecone_delta::Error::NoRecord { .. }) if before.is_some() => break,
                seal => seal?,
            };
            next = seal.previous.filter(|previous| *previous < locator);
            if next != seal.previous {
                return Err(Error::Damaged { what: format!("the seal at record {locator:?}") });
            }
            let run = Arc::new(Run::new(locator, seal)?);
            if run.last >= oldest {
                runs.push(run);
                continue;
            }
            before.get_or_insert(run.clone());
            if through.is_none_or(|through| locator > through) {
                gone.push(run);
            }
        }
        runs.reverse();
        gone.reverse();
        Ok((Self(ArcSwap::from_pointee(List::new(before, &runs))), gone))
    }

    /// The list as it is now. It stays as it is: for several questions that belong together.
    pub(crate) fn now(&self) -> Arc<List> {
        self.0.load_full()
    }

    /// Adds `run`, or lets it take the place of all runs from its first version on. Whoever found one of those goes on with it.
    pub(crate) fn put(&self, run: &Arc<Run>) {
        self.0.rcu(|list| list.with(run.clone()));
    }

    /// Takes out the runs that end before `version`. The last of them stays at hand for versions inside the run that is then the first.
    ///
    /// Whoever found one of them goes on with it; whom leases do not name after this finds none of them any more: see
    /// [`Inner::at`](crate::store::Inner::at).
    pub(crate) fn forget_before(&self, version: u64) {
        self.0.rcu(|list| list.from(version));
    }

    pub(crate) fn len(&self) -> usize {
        self.0.load().len()
    }

    /// Memory that they take, in bytes. Walks them all.
    pub(crate) fn size(&self) -> usize {
        self.0.load().iter().map(|run| run.size() + size_of::<Arc<Run>>()).sum()
    }

    pub(crate) fn last(&self) -> Option<Arc<Run>> {
        self.0.load().last().cloned()
    }

    pub(crate) fn last_version(&self) -> Option<u64> {
        self.0.load().last().map(|run| run.last)
    }

    pub(crate) fn first_version(&self) -> Option<u64> {
        self.0.load().first().map(|run| run.first)
    }

    /// A sealed version.
    pub(crate) fn find(&self, version: u64) -> Option<Past> {
        self.0.load().find(version)
    }

    /// The sealed version that `stamp` made.
    pub(crate) fn version_of(&self, stamp: Stamp) -> Option<u64> {
        self.0.load().version_of(stamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn run(number: u32, versions: std::ops::RangeInclusive<u64>) -> Arc<Run> {
        let version = |version: u64| SealedVersion {
            version,
            stamp: Stamp::new(number + 1, version + 1).unwrap(),
            parent: None,
            root: None,
            namespace_roots: Vec::new(),
        };
        let seal = Seal {
            previous: None,
            opening: 1,
            versions: versions.map(version).collect(),
            namespaces: Vec::new(),
            log_position: Default::default(),
            ..Seal::default()
        };
        Arc::new(Run::new(Locator::new(1, number).unwrap(), seal).unwrap())
    }

    /// `list` says of every version what a plain list of runs says.
    fn assert_is(list: &List, before: Option<&Arc<Run>>, runs: &[Arc<Run>], until: u64) {
        let locators = |runs: &mut dyn Iterator<Item = &Arc<Run>>| runs.map(|run| run.locator).collect();
        let (found, wanted): (Vec<Locator>, Vec<Locator>) =
            (locators(&mut list.iter()), locators(&mut runs.iter()));
        assert_eq!(found, wanted);
        assert_eq!(list.len(), runs.len());
        assert!(list.chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= CHUNK));
        for version in 0..=until {
            let at = runs.iter().position(|run| (run.first..=run.last).contains(&version));
            let before = match at {
                Some(at) if at > 0 => Some(runs[at - 1].locator),
                _ => before.map(|run| run.locator),
            };
            let found = list.find(version);
            assert_eq!(found.as_ref().map(|past| past.run.locator), at.map(|at| runs[at].locator));
            if let Some(past) = found {
                assert_eq!(past.before.as_ref().map(|run| run.locator), before);
                let told = past.sealed().map(|sealed| (sealed.version, sealed.stamp));
                assert_eq!(told, Some((version, past.stamp())));
            }
        }
    }

    #[test]
    fn runs_that_are_added_and_replaced_are_those_of_a_plain_list() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let runs = Runs::default();
        let mut plain: Vec<Arc<Run>> = Vec::new();
        let mut longest = 0;
        for number in 0..2_000 {
            let next = plain.last().map_or(0, |run| run.last + 1);
            let first = if rng.random_bool(0.003) && !plain.is_empty() {
                // Often far back: whole chunks go.
                plain[rng.random_range(0..plain.len())].first
            } else {
                next
            };
            let run = run(number, first..=first + rng.random_range(0..3));
            plain.retain(|kept| kept.last < first);
            plain.push(run.clone());
            longest = longest.max(plain.len());
            let before = runs.now();
            runs.put(&run);
            if number % 97 == 0 {
                assert_is(&runs.now(), None, &plain, run.last + 2);
                assert!(!before.iter().any(|kept| kept.locator == run.locator));
            }
        }
        assert_is(&runs.now(), None, &plain, plain.last().unwrap().last + 2);
        assert!(longest > 2 * CHUNK, "{longest} runs");
    }

    #[test]
    fn what_is_forgotten_leaves_the_run_before_behind() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let runs = Runs::default();
        let mut plain: Vec<Arc<Run>> = Vec::new();
        let mut before = None;
        for number in 0..1_000 {
            let next = plain.last().map_or(0, |run| run.last + 1);
            let run = run(number, next..=next + rng.random_range(0..3));
            plain.push(run.clone());
            runs.put(&run);
            if rng.random_bool(0.1) {
                let span = run.last + 1 - plain[0].first;
                let until = plain[0].first + rng.random_range(0..span.min(60));
                let gone = plain.partition_point(|run| run.last < until);
                before = plain.drain(..gone).next_back().or(before);
                runs.forget_before(until);
                assert_is(&runs.now(), before.as_ref(), &plain, run.last + 2);
            }
        }
        runs.forget_before(u64::MAX);
        assert_eq!((runs.len(), runs.first_version(), runs.last_version()), (0, None, None));
        let last = run(1_000, 9_000..=9_001);
        runs.put(&last);
        assert_eq!(runs.find(9_000).unwrap().before.map(|run| run.last), plain.last().map(|run| run.last));
    }
}
