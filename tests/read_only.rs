//! Readers in other processes: a store is followed while it is written, and nothing of it is changed.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may stop at what it did not expect"
)]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bristlecone::vfs::sim::{CrashPolicy, SimVfs};
use bristlecone::vfs::{DiskVfs, OpenMode, Vfs, VfsFile};
use bristlecone::{Batch, Error, Namespace, Options, Reader, SchemeKind};
use bristlecone_torture::{Config, Depth, Model, Rng, Universe, batches, changes, verify};

/// A file system on which every change fails, and is remembered.
#[derive(Clone, Debug)]
struct ReadOnly {
    inner: Arc<dyn Vfs>,
    tried: Arc<AtomicBool>,
}

impl ReadOnly {
    fn new(inner: impl Vfs) -> Self {
        Self { inner: Arc::new(inner), tried: Arc::default() }
    }

    fn refuse<T>(&self) -> io::Result<T> {
        self.tried.store(true, Ordering::Relaxed);
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

impl Vfs for ReadOnly {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        if mode == OpenMode::Read { self.inner.open(path, mode) } else { self.refuse() }
    }

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        self.refuse()
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.inner.read_dir(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.inner.exists(path)
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        self.refuse()
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        self.refuse()
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        self.refuse()
    }

    fn lock(&self, _: &Path) -> io::Result<Box<dyn Send + Sync>> {
        self.refuse()
    }
}

fn namespaces() -> Vec<Namespace> {
    vec![
        Namespace::accounts(SchemeKind::Ethereum),
        Namespace::flat(SchemeKind::Blake3).raw().named("receipts"),
    ]
}

/// A model of so many versions, with what each changed.
fn history(versions: usize, rng: &mut Rng) -> (Model, Vec<Vec<bristlecone_torture::Change>>) {
    let universe = Universe::random(&namespaces(), 120, rng);
    let mut model = Model::new(namespaces(), 0, universe);
    let changes = (0..versions)
        .map(|_| {
            let changes = batches::random(&model, 25, false, rng);
            model.commit(&changes).unwrap();
            changes
        })
        .collect();
    (model, changes)
}

fn config() -> Config {
    Config { seal_keys: 40, segment_bytes: 32 << 10, log_bytes: 8 << 10, ..Config::small(namespaces()) }
}

#[test]
fn a_reader_follows_a_writer_and_sees_every_sealed_version_as_it_is() {
    let mut rng = Rng::new(1);
    let (model, all) = history(240, &mut rng);
    let dir = tempfile::tempdir().unwrap();
    let options = config().options(DiskVfs);
    options.open(dir.path()).unwrap().close().unwrap();
    let done = AtomicBool::new(false);
    let (mut refreshed, mut looked) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Closed and opened again in between: the last segment may become another file.
            for part in all.chunks(60) {
                let store = options.open(dir.path()).unwrap();
                for changes in part {
                    store.commit(batches::batch_of(&model.namespaces, changes)).unwrap();
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
                store.close().unwrap();
            }
            done.store(true, Ordering::Release);
        });
        let vfs = ReadOnly::new(DiskVfs);
        let reader = Options::new().vfs(Arc::new(vfs.clone())).open_read_only(dir.path()).unwrap();
        let mut seen: Option<u64> = None;
        let mut held = Vec::new();
        loop {
            let finished = done.load(Ordering::Acquire);
            let now = reader.refresh().unwrap();
            assert!(now >= seen, "{now:?} after {seen:?}");
            refreshed += usize::from(now > seen);
            // Each new version, some of the older ones.
            let news = seen.map_or(0, |seen| seen + 1)..now.map_or(0, |now| now + 1);
            for version in news.clone() {
                let depth = if version % 7 == 0 { Depth::ALL } else { Depth::READS };
                verify::snapshot(&reader.at(version).unwrap(), &model, version, depth, &mut rng).unwrap();
                looked += 1;
            }
            if let Some(last) = now.filter(|_| !news.is_empty()) {
                let (a, b) = (rng.below(last as usize + 1) as u64, rng.below(last as usize + 1) as u64);
                let (a, b) = (reader.at(a).unwrap(), reader.at(b).unwrap());
                changes::diff(&model, &a, &b).unwrap();
                changes::history(&model, &b, 2, &mut rng).unwrap();
                held.push(a);
                assert_eq!(reader.latest().unwrap().version(), last);
                assert_eq!(reader.versions().len() as u64, last + 1);
            }
            seen = now;
            if finished {
                break;
            }
        }
        assert_eq!(seen, Some(239));
        for snapshot in held {
            verify::snapshot(&snapshot, &model, snapshot.version(), Depth::READS, &mut rng).unwrap();
        }
        reader.check(|_| ()).unwrap();
        assert_eq!(reader.unsealed().unwrap(), []);
        assert!(!vfs.tried.load(Ordering::Relaxed), "something was written");
    });
    assert!(refreshed > 5 && looked == 240, "{refreshed} times something new, {looked} versions");
}

/// Every file with its bytes and the time of its last change.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>, std::time::SystemTime)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let changed = path.metadata().unwrap().modified().unwrap();
        if path.is_dir() {
            found.extend(contents(&path));
            found.push((path, Vec::new(), changed));
        } else {
            found.push((path.clone(), std::fs::read(&path).unwrap(), changed));
        }
    }
    found.sort();
    found
}

#[test]
fn nothing_is_changed_in_a_directory_that_may_not_be_written() {
    use std::os::unix::fs::PermissionsExt;
    let mut rng = Rng::new(2);
    let (model, all) = history(30, &mut rng);
    let dir = tempfile::tempdir().unwrap();
    let store = config().options(DiskVfs).open(dir.path()).unwrap();
    for changes in &all[..20] {
        store.commit(batches::batch_of(&model.namespaces, changes)).unwrap();
    }
    store.close().unwrap();
    let before = contents(dir.path());
    let modes = |mode_of_files: u32, mode_of_dirs: u32| {
        for (path, ..) in &before {
            let mode = if path.is_dir() { mode_of_dirs } else { mode_of_files };
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode_of_dirs)).unwrap();
    };
    modes(0o444, 0o555);
    let reader = Reader::open(dir.path()).unwrap();
    assert_eq!(reader.refresh().unwrap(), Some(19));
    for version in 0..20 {
        verify::snapshot(&reader.at(version).unwrap(), &model, version, Depth::ALL, &mut rng).unwrap();
    }
    assert!(matches!(reader.at(20), Err(Error::VersionNotKept { version: 20, first: 0, last: 19 })));
    reader.check(|_| ()).unwrap();
    let stats = reader.stats().unwrap();
    assert_eq!((stats.versions, stats.latest_sealed, stats.unsealed_versions), (Some((0, 19)), Some(19), 0));
    assert_eq!(reader.namespaces(), model.namespaces);
    assert_eq!(contents(dir.path()), before);
    modes(0o644, 0o755);
    // A writer takes nothing from it, and it nothing from the writer.
    let store = config().options(DiskVfs).open(dir.path()).unwrap();
    for changes in &all[20..] {
        store.commit(batches::batch_of(&model.namespaces, changes)).unwrap();
    }
    store.flush().unwrap();
    assert_eq!(reader.latest_version(), Some(19));
    assert_eq!(reader.refresh().unwrap(), Some(29));
    verify::snapshot(&reader.latest().unwrap(), &model, 29, Depth::ALL, &mut rng).unwrap();
    store.close().unwrap();
}

#[test]
fn what_a_stop_left_is_read_as_far_as_it_is_sealed_and_the_rest_is_counted() {
    let mut rng = Rng::new(3);
    let (model, all) = history(24, &mut rng);
    let sim = SimVfs::new(3);
    let options = config().options(sim.clone());
    let store = options.open("/store").unwrap();
    for changes in &all {
        store.commit(batches::batch_of(&model.namespaces, changes)).unwrap().durable().wait().unwrap();
    }
    let count = sim.op_count();
    let mut counted = 0;
    for boundary in (0..=count).step_by(count.div_ceil(60)) {
        let images = CrashPolicy::EVERY.iter().map(|policy| sim.image_at(boundary, *policy, rng.next_u64()));
        for image in images.chain([sim.killed_at(boundary)]).collect::<Vec<_>>() {
            let vfs = ReadOnly::new(image.clone());
            let reader = Options::new().vfs(Arc::new(vfs.clone())).open_read_only("/store");
            let reader = match reader {
                // Not even its name was durable.
                Err(Error::Storage(_)) if boundary < count / 4 => continue,
                opened => opened.unwrap(),
            };
            let sealed = reader.latest_version();
            let waiting = reader.unsealed().unwrap();
            for version in sealed.map_or(0..0, |last| last.saturating_sub(2)..last + 1) {
                let snapshot = reader.at(version).unwrap();
                verify::snapshot(&snapshot, &model, version, Depth::READS, &mut rng).unwrap();
            }
            counted += usize::from(!waiting.is_empty());
            assert!(!vfs.tried.load(Ordering::Relaxed), "something was written");
            // Whoever opens it to write finds just that.
            let store = config().options(image).open("/store").unwrap();
            let found = waiting.last().map(|info| info.version).or(sealed);
            assert_eq!(store.latest_version(), found, "boundary {boundary}");
            assert!(
                waiting.iter().zip(sealed.map_or(0, |last| last + 1)..).all(|(info, at)| info.version == at)
            );
        }
    }
    assert!(counted > 20, "{counted}");
    drop(store);
}

#[test]
fn damage_at_the_end_of_the_segments_is_not_taken_for_what_is_being_written() {
    let mut rng = Rng::new(7);
    let (model, all) = history(12, &mut rng);
    let sim = SimVfs::new(7);
    let store = config().options(sim.clone()).open("/store").unwrap();
    let mut before_last = 0;
    for (at, changes) in all.iter().enumerate() {
        store.commit(batches::batch_of(&model.namespaces, changes)).unwrap();
        if at + 2 == all.len() {
            store.flush().unwrap();
            before_last = store.stats().unwrap().segment_bytes;
        }
    }
    store.close().unwrap();
    let read_only = |image: &SimVfs| Options::new().vfs(Arc::new(image.clone())).open_read_only("/store");
    let whole = read_only(&sim).unwrap();
    let (latest, end) = (whole.latest_version(), whole.stats().unwrap().segment_bytes);
    assert_eq!((latest, before_last < end), (model.last_version(), true));
    drop(whole);
    let files = sim.files();
    let segments: Vec<_> =
        files.iter().filter(|file| file.extension().is_some_and(|end| end == "seg")).collect();
    let [segment] = segments.as_slice() else { panic!("{segments:?}") };
    // A reader looks for half a second before it believes in damage to a header.
    let mut refused = 0;
    for byte in (before_last..end).step_by(((end - before_last) / 25) as usize).chain([before_last + 9]) {
        let image = sim.killed_at(usize::MAX);
        image.flip_bit(segment, byte, 3).unwrap();
        let Ok(reader) = read_only(&image) else {
            refused += 1;
            continue;
        };
        assert_eq!(reader.latest_version(), latest, "byte {byte}");
    }
    assert!(refused > 0);
}

#[test]
fn a_reader_sees_a_rollback_when_it_looks_again() {
    let mut rng = Rng::new(4);
    let (model, all) = history(12, &mut rng);
    let sim = SimVfs::new(4);
    let options = Config { seal_keys: 100_000, ..config() }.options(sim.clone());
    let store = options.open("/store").unwrap();
    let reader = options.open_read_only("/store").unwrap();
    assert_eq!((reader.refresh().unwrap(), reader.versions()), (None, Vec::new()));
    assert!(matches!(reader.latest(), Err(Error::NoVersion)));
    for (version, changes) in all.iter().enumerate() {
        store.commit(batches::batch_of(&model.namespaces, changes)).unwrap();
        if version % 4 == 3 {
            store.flush().unwrap();
        }
    }
    assert_eq!(reader.refresh().unwrap(), Some(11));
    let held = reader.latest().unwrap();
    // To the end of a run, then into the middle of one, then on from there.
    for (to, last) in [(7, 7), (5, 5)] {
        store.rollback(to).unwrap();
        assert_eq!(reader.refresh().unwrap(), Some(last));
        verify::snapshot(&reader.latest().unwrap(), &model, last, Depth::ALL, &mut rng).unwrap();
    }
    verify::snapshot(&held, &model, 11, Depth::READS, &mut rng).unwrap();
    store.commit(Batch::new()).unwrap();
    store.flush().unwrap();
    assert_eq!(reader.refresh().unwrap(), Some(6));
    let (five, six) = (reader.at(5).unwrap(), reader.at(6).unwrap());
    assert_eq!(five.root().unwrap(), six.root().unwrap());
    assert_eq!(reader.diff(5, 6).unwrap().count(), 0);
    reader.check(|_| ()).unwrap();
    store.close().unwrap();
}

#[test]
fn a_reader_follows_what_is_pruned_pinned_and_compacted() {
    let mut rng = Rng::new(5);
    let (model, all) = history(90, &mut rng);
    let sim = SimVfs::new(5);
    let options = Config { segment_bytes: 4 << 10, ..config() }.options(sim.clone());
    let store = options.open("/store").unwrap();
    let reader = options.open_read_only("/store").unwrap();
    for changes in &all {
        store.commit(batches::batch_of(&model.namespaces, changes)).unwrap();
    }
    store.flush().unwrap();
    assert_eq!(reader.refresh().unwrap(), Some(89));
    let held = reader.at(20).unwrap();
    let before: Vec<_> = held.iter_accounts().unwrap().map(Result::unwrap).collect();
    store.pin("thirty", 30).unwrap();
    store.prune(10).unwrap();
    let report = store.compact(|_| ()).unwrap();
    assert!(report.segments > 3 && report.records > 30, "{report:?}");
    // The files that the reader has open are there as long as it does not look again.
    verify::snapshot(&held, &model, 20, Depth::READS, &mut rng).unwrap();
    for reader in [reader, options.open_read_only("/store").unwrap()] {
        assert_eq!(reader.refresh().unwrap(), Some(89));
        assert_eq!(reader.pins(), store.pins());
        let listed: Vec<u64> = reader.versions().iter().map(|info| info.version).collect();
        assert_eq!(listed, store.versions().iter().map(|info| info.version).collect::<Vec<_>>());
        assert_eq!((listed.first(), listed.get(1), listed.len()), (Some(&30), Some(&80), 11));
        for version in listed {
            verify::snapshot(&reader.at(version).unwrap(), &model, version, Depth::ALL, &mut rng).unwrap();
        }
        for gone in [20, 31, 79] {
            assert!(matches!(reader.at(gone), Err(Error::VersionNotKept { first: 80, last: 89, .. })));
        }
        reader.check(|_| ()).unwrap();
    }
    // A snapshot of what went is right still, or it fails: some of its records are gone.
    let after = held.iter_accounts().and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match after {
        Ok(after) => assert_eq!(after, before),
        Err(error) => assert!(matches!(error, Error::Storage(_) | Error::Damaged { .. }), "{error:?}"),
    }
    store.close().unwrap();
}

#[test]
fn what_is_no_store_is_not_made_one() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Reader::open(dir.path()), Err(Error::Storage(_))));
    assert!(matches!(Reader::open(dir.path().join("nowhere")), Err(Error::Storage(_))));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    config().options(DiskVfs).open(dir.path()).unwrap().close().unwrap();
    let other = Options::new().namespace(Namespace::flat(SchemeKind::Blake3));
    assert!(matches!(other.open_read_only(dir.path()), Err(Error::ConfigMismatch { .. })));
}
