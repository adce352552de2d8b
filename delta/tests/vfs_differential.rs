//! The same random calls on the real and on the simulated disk give the same answers.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may stop at what it did not expect"
)]

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bristlecone_delta::vfs::sim::{CrashPolicy, SimVfs};
use bristlecone_delta::vfs::{DiskVfs, OpenMode, Vfs, VfsFile};
use bytes::Bytes;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Few names, so that calls meet: files, directories, and files where a directory is wanted.
const PATHS: [&str; 12] = ["a", "b", "c", "d", "d/a", "d/b", "d/d", "d/d/a", "a/b", "e/a", "./b", "d/./b"];

#[derive(Debug)]
enum Call {
    Open(usize, PathBuf, OpenMode),
    Close(usize),
    Len(usize),
    Read(usize, u64, usize),
    Write(usize, u64, Vec<u8>),
    SetLen(usize, u64, bool),
    Sync(usize),
    Map(usize, usize, u64, u64),
    Unmap(usize),
    MakeDirs(PathBuf),
    List(PathBuf),
    Exists(PathBuf),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
    SyncDir(PathBuf),
    Lock(usize, PathBuf),
    Unlock(usize),
}

fn random_call(rng: &mut ChaCha8Rng) -> Call {
    let path = |rng: &mut ChaCha8Rng| PathBuf::from(PATHS[rng.random_range(0..PATHS.len())]);
    let handle = rng.random_range(0..4);
    let offset = |rng: &mut ChaCha8Rng| {
        let near = [0, 1, 500, 4095, 4096, 4097, 8192, 20_000][rng.random_range(0..8)];
        near + rng.random_range(0..3)
    };
    match rng.random_range(0..100) {
        0..14 => {
            let mode =
                [OpenMode::Create, OpenMode::Create, OpenMode::Write, OpenMode::Read][rng.random_range(0..4)];
            Call::Open(handle, path(rng), mode)
        }
        14..16 => Call::Close(handle),
        16..20 => Call::Len(handle),
        20..32 => Call::Read(handle, offset(rng), rng.random_range(0..9000)),
        32..52 => {
            let mut bytes = vec![0; rng.random_range(0..9000)];
            rng.fill_bytes(&mut bytes);
            Call::Write(handle, offset(rng), bytes)
        }
        52..60 => Call::SetLen(handle, offset(rng), rng.random()),
        60..62 => Call::Sync(handle),
        62..68 => Call::Map(handle, rng.random_range(0..3), offset(rng), rng.random_range(0..9000)),
        68..70 => Call::Unmap(rng.random_range(0..3)),
        70..74 => Call::MakeDirs(path(rng)),
        74..80 => Call::List([PathBuf::new(), "d".into(), path(rng)][rng.random_range(0..3)].clone()),
        80..84 => Call::Exists(path(rng)),
        84..88 => Call::Remove(path(rng)),
        88..95 => Call::Rename(path(rng), path(rng)),
        95..97 => Call::SyncDir([PathBuf::new(), path(rng)][rng.random_range(0..2)].clone()),
        97..99 => Call::Lock(rng.random_range(0..2), path(rng)),
        _ => Call::Unlock(rng.random_range(0..2)),
    }
}

/// What a call answered, in a form that can be compared.
#[derive(Debug, PartialEq)]
enum Answer {
    Nothing,
    Bytes(Vec<u8>),
    Number(u64),
    Flag(bool),
    Paths(Vec<PathBuf>),
    Error(io::ErrorKind),
}

struct Player {
    vfs: Box<dyn Vfs>,
    root: PathBuf,
    handles: BTreeMap<usize, Arc<dyn VfsFile>>,
    maps: BTreeMap<usize, Bytes>,
    locks: BTreeMap<usize, Box<dyn Send + Sync>>,
}

impl Player {
    fn new(vfs: Box<dyn Vfs>, root: &Path) -> Self {
        let (handles, maps, locks) = Default::default();
        Self { vfs, root: root.to_path_buf(), handles, maps, locks }
    }

    fn play(&mut self, call: &Call) -> Answer {
        self.try_play(call).unwrap_or_else(|e| Answer::Error(e.kind()))
    }

    fn try_play(&mut self, call: &Call) -> io::Result<Answer> {
        let at = |path: &PathBuf| {
            if path.as_os_str().is_empty() { self.root.clone() } else { self.root.join(path) }
        };
        let done = |()| Answer::Nothing;
        match call {
            Call::Open(handle, path, mode) => {
                self.handles.remove(handle);
                let file = self.vfs.open(&at(path), *mode)?;
                self.handles.insert(*handle, file);
            }
            Call::Close(handle) => drop(self.handles.remove(handle)),
            Call::Unmap(map) => drop(self.maps.remove(map)),
            Call::Unlock(lock) => drop(self.locks.remove(lock)),
            Call::MakeDirs(path) => self.vfs.create_dir_all(&at(path))?,
            Call::Exists(path) => return self.vfs.exists(&at(path)).map(Answer::Flag),
            Call::Remove(path) => return self.vfs.remove(&at(path)).map(done),
            Call::Rename(from, to) => return self.vfs.rename(&at(from), &at(to)).map(done),
            Call::SyncDir(path) => return self.vfs.sync_dir(&at(path)).map(done),
            Call::List(path) => {
                let dir = at(path);
                let paths = self.vfs.read_dir(&dir)?;
                return Ok(Answer::Paths(
                    paths.iter().map(|p| p.strip_prefix(&dir).unwrap().into()).collect(),
                ));
            }
            Call::Lock(lock, path) => {
                let held = self.vfs.lock(&at(path))?;
                self.locks.insert(*lock, held);
            }
            Call::Len(h) | Call::Read(h, ..) | Call::Write(h, ..) | Call::SetLen(h, ..) | Call::Sync(h) => {
                let Some(file) = self.handles.get(h).cloned() else { return Ok(Answer::Nothing) };
                return on_file(&*file, call);
            }
            Call::Map(h, map, offset, len) => {
                let Some(file) = self.handles.get(h) else { return Ok(Answer::Nothing) };
                let bytes = file.map(*offset, *len)?;
                let answer = Answer::Bytes(bytes.to_vec());
                self.maps.insert(*map, bytes);
                return Ok(answer);
            }
        }
        Ok(Answer::Nothing)
    }
}

fn on_file(file: &dyn VfsFile, call: &Call) -> io::Result<Answer> {
    match call {
        Call::Len(_) => return file.len().map(Answer::Number),
        Call::Read(_, offset, len) => {
            let mut buf = vec![0; *len];
            file.read_exact_at(&mut buf, *offset)?;
            return Ok(Answer::Bytes(buf));
        }
        Call::Write(_, offset, bytes) => file.write_all_at(bytes, *offset)?,
        Call::SetLen(_, len, allocate) => file.set_len(*len, *allocate)?,
        Call::Sync(_) => file.sync()?,
        other => unreachable!("{other:?}"),
    }
    Ok(Answer::Nothing)
}

/// All files with their bytes, as a fresh look finds them.
fn contents(vfs: &dyn Vfs, dir: &Path, root: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for path in vfs.read_dir(dir).unwrap() {
        match vfs.open(&path, OpenMode::Read) {
            Ok(file) => {
                let mut bytes = vec![0; file.len().unwrap() as usize];
                file.read_exact_at(&mut bytes, 0).unwrap();
                found.insert(path.strip_prefix(root).unwrap().into(), bytes);
            }
            Err(e) => {
                assert_eq!(e.kind(), io::ErrorKind::IsADirectory);
                contents(vfs, &path, root, found);
            }
        }
    }
}

fn all_contents(vfs: &dyn Vfs, root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    contents(vfs, root, root, &mut found);
    found
}

#[test]
fn the_simulated_disk_answers_as_the_real_one_does() {
    let sequences: u64 = std::env::var("VFS_SEQUENCES").map_or(150, |n| n.parse().unwrap());
    let first: u64 = std::env::var("VFS_SEED").map_or(1, |n| n.parse().unwrap());
    let mut errors = BTreeMap::<String, usize>::new();
    for seed in first..first + sequences {
        let dir = tempfile::tempdir().unwrap();
        let sim = SimVfs::new(seed);
        sim.create_dir_all(Path::new("/r")).unwrap();
        let mut real = Player::new(Box::new(DiskVfs), dir.path());
        let mut simulated = Player::new(Box::new(sim.clone()), Path::new("/r"));
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for step in 0..150 {
            let call = random_call(&mut rng);
            let (expected, got) = (real.play(&call), simulated.play(&call));
            if let Answer::Error(kind) = &expected {
                *errors.entry(format!("{kind:?}")).or_default() += 1;
            }
            assert!(
                expected == got,
                "VFS_SEED={seed} step {step}: {call:?}\nreal {expected:?}\nsim  {got:?}"
            );
        }
        let expected = all_contents(&DiskVfs, dir.path());
        assert_eq!(all_contents(&sim, Path::new("/r")), expected, "VFS_SEED={seed}");
        // With everything kept, power loss changes nothing; and neither does replaying the history.
        for boundary in [sim.op_count(), usize::MAX] {
            let image = sim.image_at(boundary, CrashPolicy::KeepAll, 0);
            assert_eq!(all_contents(&image, Path::new("/r")), expected, "VFS_SEED={seed}");
        }
        sim.write_file("/elsewhere", b"").unwrap();
        sim.create_dir_all(Path::new("/x")).unwrap();
        let replayed = sim.image_at(sim.op_count() - 1, CrashPolicy::KeepAll, 0);
        assert_eq!(all_contents(&replayed, Path::new("/r")), expected, "VFS_SEED={seed}: the replay differs");
    }
    println!("{sequences} sequences from VFS_SEED={first}; errors met: {errors:?}");
    if sequences >= 100 {
        for kind in
            ["NotFound", "AlreadyExists", "NotADirectory", "IsADirectory", "UnexpectedEof", "WouldBlock"]
        {
            assert!(errors.contains_key(kind), "{kind} never came up");
        }
        assert!(errors.contains_key("PermissionDenied") && errors.contains_key("ResourceBusy"));
    }
}
