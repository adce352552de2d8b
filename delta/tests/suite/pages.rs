//! Random pages through many deltas and bases, against maps: every key is found as the map has it, and pages come back
//! byte for byte, now and from every older record.

use std::collections::BTreeMap;

use crate::common::{Rng, open_in, small};
use bristlecone_delta::vfs::sim::SimVfs;
use bristlecone_delta::{ChildEntry, Found, Locator, Opened, Options, Seal, Stamp};
use bristlecone_trie::{B256, Entry, Item, NodeRef, Page, PageBuilder};

/// The nibbles of a path, and whether it lies below an account of the page.
type Place = (Vec<u8>, bool);

#[derive(Clone, Debug, PartialEq)]
enum Kept {
    Leaf(u64, Vec<u8>),
    Account(u64, u64, Vec<u8>),
    Child(ChildEntry),
}

/// A page as a map.
#[derive(Clone, Default)]
struct Model {
    accounts: bool,
    depth: usize,
    entries: BTreeMap<Place, Kept>,
}

fn nibbles(key: &[u8]) -> Vec<u8> {
    key.iter().flat_map(|byte| [byte >> 4, byte & 15]).collect()
}

fn packed(nibbles: &[u8]) -> Vec<u8> {
    nibbles.chunks(2).map(|pair| pair[0] << 4 | pair.get(1).copied().unwrap_or(0)).collect()
}

impl Model {
    fn place(&self, key: &[u8]) -> Place {
        (nibbles(key), self.accounts && key.len() > 32)
    }

    /// The page that `path` lies in, if it is another one.
    fn child_over(&self, path: &[u8], below: bool) -> Option<&Place> {
        let over = |place: &&Place| path.starts_with(&place.0) && (!place.1 || below);
        self.entries
            .iter()
            .filter(|(_, kept)| matches!(kept, Kept::Child(_)))
            .map(|(place, _)| place)
            .find(over)
    }

    fn has_account(&self, path: &[u8]) -> bool {
        matches!(self.entries.get(&(path[..64].to_vec(), false)), Some(Kept::Account(..)))
    }

    fn step(&mut self, rng: &mut Rng, pool: &[Vec<u8>], stamp: u64) {
        let key = &pool[rng.below(pool.len())];
        let (path, below) = self.place(key);
        let writable = self.child_over(&path, below).is_none() && (!below || self.has_account(&path));
        let value = vec![stamp as u8; if rng.one_in(20) { rng.below(3000) } else { rng.below(40) }];
        match rng.below(12) {
            0..=5 if writable && self.accounts && !below => {
                let wiped = match self.entries.get(&(path.clone(), false)) {
                    Some(Kept::Account(_, wiped, _)) => *wiped,
                    _ => 0,
                };
                self.entries.insert((path, below), Kept::Account(stamp, wiped, value));
            }
            0..=5 if writable => drop(self.entries.insert((path, below), Kept::Leaf(stamp, value))),
            6..=7 => self.remove(&(path, below)),
            8 if self.accounts && !below => self.wipe(&path, stamp),
            9 | 10 => self.split(rng, &path, below, stamp),
            11 => self.change_child(rng, stamp),
            _ => {}
        }
    }

    /// Changes values, and nothing else.
    fn set_values(&mut self, rng: &mut Rng, places: &[Place], stamp: u64) {
        for _ in 0..1 + rng.below(4) {
            let kept = places.get(rng.below(places.len())).and_then(|place| self.entries.get_mut(place));
            if let Some(Kept::Leaf(changed, value) | Kept::Account(changed, _, value)) = kept {
                (*changed, *value) = (stamp, vec![stamp as u8; rng.below(40)]);
            }
        }
    }

    fn remove(&mut self, place: &Place) {
        if matches!(self.entries.get(place), Some(Kept::Account(..))) {
            self.entries.retain(|(path, below), _| !(*below && path.starts_with(&place.0)));
        }
        self.entries.remove(place);
    }

    fn wipe(&mut self, path: &[u8], stamp: u64) {
        if let Some(Kept::Account(_, wiped, _)) = self.entries.get_mut(&(path.to_vec(), false)) {
            *wiped = stamp;
            self.entries.retain(|(other, below), _| !(*below && other.starts_with(path)));
        }
    }

    /// Moves what is under a part of `path` to another page.
    fn split(&mut self, rng: &mut Rng, path: &[u8], below: bool, stamp: u64) {
        let room = path.len() - self.depth;
        let most = if rng.one_in(2) { 5 } else { 200 };
        let end = self.depth + 1 + rng.below(room.min(most));
        let end = end.min(path.len());
        let below = below && end >= 64;
        if !below && self.accounts && end >= 64 || below && !self.has_account(path) {
            return;
        }
        let path = path[..end].to_vec();
        if self.child_over(&path, below).is_some() {
            return;
        }
        self.entries.retain(|(other, other_below), kept| {
            let account = other.len() == 64 && !other_below && matches!(kept, Kept::Account(..));
            !other.starts_with(&path) || account && below
        });
        self.entries.insert((path, below), Kept::Child(child(rng, stamp)));
    }

    fn change_child(&mut self, rng: &mut Rng, stamp: u64) {
        let children: Vec<Place> = self
            .entries
            .iter()
            .filter(|(_, kept)| matches!(kept, Kept::Child(_)))
            .map(|(place, _)| place.clone())
            .collect();
        if let Some(place) = children.get(rng.below(children.len())) {
            if rng.one_in(3) {
                self.entries.remove(place);
            } else {
                self.entries.insert(place.clone(), Kept::Child(child(rng, stamp)));
            }
        }
    }

    /// The page, with its children.
    fn page(&self) -> (Vec<u8>, Vec<ChildEntry>) {
        let mut builder = PageBuilder::new(self.depth);
        let mut children = Vec::new();
        for ((path, below), kept) in &self.entries {
            let item = match kept {
                Kept::Leaf(stamp, value) => Item::Leaf { stamp: *stamp, value },
                Kept::Account(stamp, wiped, body) => Item::Account { stamp: *stamp, wiped: *wiped, body },
                Kept::Child(child) => {
                    children.push(*child);
                    Item::Child { reference: child.locator.word() }
                }
            };
            let tail = packed(&path[if *below { 64 } else { self.depth & !1 }..]);
            builder.push(&Entry { below: *below, end: path.len(), tail: &tail, item });
        }
        (builder.finish(), children)
    }

    fn expected(&self, key: &[u8]) -> Found<'_> {
        let (path, below) = self.place(key);
        match self.entries.get(&(path.clone(), below)) {
            Some(Kept::Leaf(stamp, value)) => return Found::Leaf { stamp: Stamp::from_word(*stamp), value },
            Some(Kept::Account(stamp, wiped, body)) => {
                let wiped = (*wiped != 0).then_some(Stamp::from_word(*wiped));
                return Found::Account { stamp: Stamp::from_word(*stamp), wiped, body };
            }
            _ => {}
        }
        match self.child_over(&path, below).map(|place| &self.entries[place]) {
            Some(Kept::Child(child)) => Found::Child { locator: child.locator, node: child.node },
            _ => Found::Absent,
        }
    }
}

fn child(rng: &mut Rng, stamp: u64) -> ChildEntry {
    let node = match rng.below(4) {
        0 => NodeRef::embedded(&vec![stamp as u8; 1 + rng.below(31)]).unwrap(),
        _ => NodeRef::hash(B256::repeat_byte(stamp as u8)),
    };
    ChildEntry { locator: Locator::new(1, rng.next() as u32).unwrap(), node }
}

/// Keys that share the first `depth` nibbles and then part soon, late, or only below an account.
fn pool(rng: &mut Rng, accounts: bool, depth: usize, size: usize) -> Vec<Vec<u8>> {
    let spread = if size > 100 { 16 } else { 3 };
    let mut stem = vec![0; 512];
    stem.iter_mut().for_each(|byte| *byte = rng.next() as u8);
    let key = |rng: &mut Rng, len: usize| {
        let mut path = nibbles(&stem[..len]);
        let from = depth.min(path.len());
        let varied = [from, from + 1, from + 2, from + 5, from + 30];
        for at in varied.into_iter().filter(|at| *at < len * 2) {
            path[at] = (rng.below(spread) * (16 / spread)) as u8;
        }
        packed(&path)
    };
    if !accounts {
        let least = depth.div_ceil(2);
        return (0..size)
            .map(|_| {
                let len = least + rng.below(5);
                key(rng, len)
            })
            .collect();
    }
    if depth >= 64 {
        return (0..size).map(|_| key(rng, 64)).collect();
    }
    let mut keys: Vec<Vec<u8>> = (0..size / 4 + 1).map(|_| key(rng, 32)).collect();
    for _ in 0..size {
        let mut slot = keys[rng.below(size / 4 + 1)].clone();
        slot.resize(64, 0x55);
        slot[32 + rng.below(2)] = (rng.below(4) * 5) as u8;
        slot[63] = rng.below(4) as u8;
        keys.push(slot);
    }
    keys
}

fn finish(
    opened: &mut Opened,
    put: impl FnOnce(&mut bristlecone_delta::GroupWriter<'_>) -> Locator,
) -> Locator {
    let opening = opened.opening;
    let log_position = opened.log.as_ref().unwrap().position();
    let mut group = opened.writer.as_mut().unwrap().begin(opening).unwrap();
    let locator = put(&mut group);
    let seal = Seal {
        previous: None,
        opening,
        versions: vec![],
        namespaces: vec![],
        log_position,
        ..Seal::default()
    };
    group.finish(&seal).unwrap();
    locator
}

fn compare(opened: &Opened, locator: Locator, model: &Model, keys: &[Vec<u8>], what: &str) {
    for key in keys {
        let view = opened.segments.view();
        let found = view.find(locator, key).unwrap();
        assert_eq!(found, model.expected(key), "{what}: {key:02x?}");
    }
    let (bytes, children) = model.page();
    let loaded = opened.segments.load(locator).unwrap();
    assert!(loaded.bytes == bytes, "{what}: {:?} for {:?}", Page::new(&loaded.bytes), Page::new(&bytes));
    assert_eq!(loaded.children, children.iter().map(|child| child.node).collect::<Vec<_>>());
}

/// One page through `steps` records.
fn evolve(seed: u64, accounts: bool, depth: usize, size: usize, steps: usize) {
    let mut rng = Rng::new(seed);
    let sim = SimVfs::new(seed);
    let options = Options { segment_bytes: 1 << 20, max_deltas: rng.below(12) as u32, ..small() };
    let mut opened = open_in(&sim, &options).unwrap();
    let pool = pool(&mut rng, accounts, depth, size);
    let mut queries = pool.clone();
    for key in &pool {
        if !accounts && !key.is_empty() {
            queries.push([&key[..], &[0x30]].concat());
            queries.push(key[..key.len() - 1].to_vec());
        }
    }
    queries.retain(|key| key.len() * 2 >= depth);
    let mut model = Model { accounts: accounts && depth < 64, depth, entries: BTreeMap::new() };
    let mut history: Vec<(Locator, Model)> = Vec::new();
    let mut previous = None;
    for step in 1..=steps {
        let most = if rng.one_in(6) { size } else { 4 };
        let changes = if step == 1 { size * 2 } else { rng.below(most) };
        for _ in 0..changes {
            model.step(&mut rng, &pool, step as u64);
        }
        let (bytes, children) = model.page();
        let locator = finish(&mut opened, |group| {
            group.put_page(previous, Page::new(&bytes), &children).unwrap().newest()
        });
        let what = format!("seed {seed}, accounts {accounts}, depth {depth}, size {size}, step {step}");
        compare(&opened, locator, &model, &queries, &what);
        previous = Some(locator);
        history.push((locator, model.clone()));
    }
    opened.segments.verify_all().unwrap();
    for (step, (locator, model)) in history.iter().enumerate() {
        compare(&opened, *locator, model, &queries, &format!("seed {seed}: back at step {step}"));
    }
}

#[test]
fn flat_pages_of_any_depth_are_found_and_loaded_as_written() {
    for seed in 0..60 {
        evolve(seed, false, (seed as usize * 7) % 90, 24, 40);
    }
}

#[test]
fn pages_of_accounts_with_slots_are_found_and_loaded_as_written() {
    for seed in 100..160 {
        evolve(seed, true, (seed as usize) % 64, 24, 40);
    }
}

#[test]
fn pages_within_a_storage_are_found_and_loaded_as_written() {
    for seed in 200..210 {
        evolve(seed, true, 64 + (seed as usize) % 9, 24, 30);
    }
}

#[test]
fn pages_of_hundreds_of_entries_are_found_and_loaded_as_written() {
    for seed in 300..304 {
        evolve(seed, seed % 2 == 0, (seed as usize) % 5, 700, 20);
    }
}

/// One page through `steps` records that its chain is known for: compared with the page before, or by its stamps where it keeps
/// its entries. Every record is the very one that reading the records before it leads to.
fn follow(seed: u64, accounts: bool, plain: bool, depth: usize, steps: u64) -> [usize; 3] {
    let mut rng = Rng::new(seed);
    // Each group gets a segment of its own: so the model's children, in segment 1, are of no later group.
    let options = Options { segment_bytes: 1, max_deltas: rng.below(12) as u32, ..small() };
    let (sim, twin) = (SimVfs::new(seed), SimVfs::new(seed));
    let (mut opened, mut read) = (open_in(&sim, &options).unwrap(), open_in(&twin, &options).unwrap());
    let pool = pool(&mut rng, accounts, depth, 20);
    let mut model = Model { accounts: accounts && depth < 64, depth, entries: BTreeMap::new() };
    (0..40).for_each(|_| model.step(&mut rng, &pool, 1));
    let (mut old, mut children) = model.page();
    let put = |opened: &mut Opened, page: &[u8], previous, children: &[ChildEntry]| {
        let mut chain = None;
        finish(opened, |group| {
            let put = group.put_page(previous, Page::new(page), children).unwrap();
            chain.insert(put).newest()
        });
        chain.unwrap()
    };
    let mut chain = put(&mut opened, &old, None, &children);
    assert_eq!(put(&mut read, &old, None, &children), chain);
    let (mut updated, mut grown, mut compared) = (0, 0, 0);
    for step in 2..steps + 2 {
        let places: Vec<Place> = model.entries.keys().cloned().collect();
        match rng.one_in(2) {
            true => (0..rng.below(6)).for_each(|_| model.step(&mut rng, &pool, step)),
            false => model.set_values(&mut rng, &places, step),
        }
        if plain {
            model.entries.retain(|_, kept| !matches!(kept, Kept::Child(_)));
        }
        // A child that changed would be a record of the group, which the model's are not.
        let before = children.clone();
        let (bytes, now) = model.page();
        let kept_places = places.iter().all(|place| model.entries.contains_key(place));
        let is_added = |(at, place): (usize, &Place)| places.binary_search(place).is_err().then_some(at);
        let added: Vec<usize> = model.entries.keys().enumerate().filter_map(is_added).collect();
        if now.iter().any(|child| !before.contains(child)) {
            let previous = Some(chain.newest());
            chain = put(&mut opened, &bytes, previous, &now);
            assert_eq!(put(&mut read, &bytes, previous, &now), chain);
            (children, old) = (now, bytes);
            continue;
        }
        let mut known = None;
        let since = Stamp::from_word(step);
        finish(&mut opened, |group| {
            let page = Page::new(&bytes);
            known = match kept_places {
                true => group.put_updated(&chain, page, since, &added).unwrap(),
                false => None,
            };
            *(if added.is_empty() { &mut updated } else { &mut grown }) += usize::from(known.is_some());
            if known.is_none() {
                known = group.put_compared(&chain, Page::new(&old), page, &now).unwrap();
                compared += usize::from(known.is_some());
            }
            let put = || group.put_page(Some(chain.newest()), page, &now).unwrap();
            known.get_or_insert_with(put).newest()
        });
        let known = known.unwrap();
        let what = format!("seed {seed}, accounts {accounts}, plain {plain}, depth {depth}, step {step}");
        assert_eq!(put(&mut read, &bytes, Some(chain.newest()), &now), known, "{what}");
        let record = |opened: &Opened| opened.segments.view().record(known.newest()).unwrap().to_vec();
        assert_eq!(record(&opened), record(&read), "{what}");
        compare(&opened, known.newest(), &model, &pool, &what);
        (chain, old, children) = (known, bytes, now);
    }
    [updated, grown, compared]
}

#[test]
fn a_known_chain_leads_to_the_record_that_reading_does() {
    let mut counts = [0; 3];
    for seed in 0..120 {
        let accounts = seed % 2 == 0;
        let more = follow(seed, accounts, seed % 3 > 0, (seed as usize * 5) % 70, 30);
        counts.iter_mut().zip(more).for_each(|(count, more)| *count += more);
    }
    let [updated, grown, compared] = counts;
    assert!(updated > 300 && grown > 20 && compared > 300, "{counts:?}: by stamps, with what came, compared");
}

#[test]
fn what_did_not_change_is_not_written_and_a_small_change_is_small() {
    let sim = SimVfs::new(1);
    let mut opened = open_in(&sim, &Options { segment_bytes: 1 << 20, ..small() }).unwrap();
    let mut model = Model::default();
    for key in 0..16u8 {
        model.entries.insert((nibbles(&[key * 16, 1, 2, 3]), false), Kept::Leaf(1, vec![key; 32]));
    }
    let (bytes, _) = model.page();
    let first = finish(&mut opened, |group| group.put_page(None, Page::new(&bytes), &[]).unwrap().newest());
    let again =
        finish(&mut opened, |group| group.put_page(Some(first), Page::new(&bytes), &[]).unwrap().newest());
    assert_eq!(first, again);
    model.entries.insert((nibbles(&[32, 1, 2, 3]), false), Kept::Leaf(2, vec![9; 32]));
    let (bytes, _) = model.page();
    let delta =
        finish(&mut opened, |group| group.put_page(Some(first), Page::new(&bytes), &[]).unwrap().newest());
    let view = opened.segments.view();
    let record = view.record(delta).unwrap();
    // Kind, flags, depth, the base, a stamp, two counts, one position, one end, one kind, one stamp: and the value.
    assert_eq!(record.len() - 32, 1 + 1 + 2 + 2 + 1 + 2 + 1 + 2 + 1 + 1);
    let golden = b"\x02\x04\0\0\x00\x00\x02\x01\x00\x02\x22\0\x00\x00";
    assert_eq!(record[..golden.len()], *golden);
    let mut base = b"\x01\x00\x10\x00\x00\x00\x01\0\0\0\0\0\0\0".to_vec();
    (0..16u8).for_each(|key| base.extend_from_slice(&[1, key * 16]));
    (1..=16u16).for_each(|n| base.extend_from_slice(&(n * 39).to_le_bytes()));
    for key in 0..16u8 {
        base.extend_from_slice(&[0, 8, key * 16, 1, 2, 3, 0]);
        base.extend_from_slice(&[key; 32]);
    }
    assert_eq!(view.record(first).unwrap(), base, "golden base");
}

#[test]
fn pages_that_cannot_be_stored_are_refused() {
    let sim = SimVfs::new(1);
    let mut opened = open_in(&sim, &small()).unwrap();
    let mut group = opened.writer.as_mut().unwrap().begin(1).unwrap();
    let page = |entries: &[Entry<'_>]| {
        let mut builder = PageBuilder::new(2);
        entries.iter().for_each(|entry| builder.push(entry));
        builder.finish()
    };
    let leaf = |tail| Entry { below: false, end: 6, tail, item: Item::Leaf { stamp: 1, value: b"" } };
    let out_of_order = page(&[leaf(&[2, 0]), leaf(&[1, 0])]);
    assert!(group.put_page(None, Page::new(&out_of_order), &[]).is_err());
    let node = NodeRef::hash(B256::ZERO);
    let blinded = page(&[Entry { item: Item::Blinded { node, is_branch: false }, ..leaf(&[1, 0]) }]);
    assert!(group.put_page(None, Page::new(&blinded), &[]).is_err());
    let orphan = page(&[Entry { below: true, end: 68, ..leaf(&[1, 0]) }]);
    assert!(group.put_page(None, Page::new(&orphan), &[]).is_err());
    let plain = page(&[leaf(&[1, 0])]);
    let child = ChildEntry { locator: Locator::new(1, 1).unwrap(), node };
    assert!(group.put_page(None, Page::new(&plain), &[child]).is_err());
    assert!(group.put_page(Locator::new(1, 0), Page::new(&plain), &[]).is_err(), "it is not published");
    assert!(group.put_page(None, Page::new(&plain), &[]).is_ok());
}

#[test]
fn values_of_16_mib_pass_through_a_group_larger_than_memory_holds_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: 1 << 20, ..small() };
    let vfs = std::sync::Arc::new(bristlecone_delta::vfs::DiskVfs);
    let mut opened = bristlecone_delta::open(vfs.clone(), dir.path(), &options).unwrap();
    let mut model = Model::default();
    for key in 0..3u8 {
        model.entries.insert((nibbles(&[key, 7]), false), Kept::Leaf(1, vec![key; 16 << 20]));
    }
    let (bytes, _) = model.page();
    let mut locators = Vec::new();
    finish(&mut opened, |group| {
        locators.extend((0..3).map(|_| group.put_page(None, Page::new(&bytes), &[]).unwrap().newest()));
        locators[0]
    });
    let too_long = Model {
        entries: [((nibbles(&[1]), false), Kept::Leaf(1, vec![0; (16 << 20) + 1]))].into(),
        ..model.clone()
    };
    let (bytes, _) = too_long.page();
    let mut group = opened.writer.as_mut().unwrap().begin(1).unwrap();
    assert!(group.put_page(None, Page::new(&bytes), &[]).is_err());
    drop(group);
    drop(opened);
    let opened = bristlecone_delta::open(vfs, dir.path(), &Options { read_only: true, ..options }).unwrap();
    for locator in locators {
        compare(&opened, locator, &model, &[vec![0, 7], vec![2, 7], vec![2, 8]], "reopened");
    }
}
