//! A directory made by an enemy: where a file of the store should be stands a pipe, a directory, a link to itself or to a device that never
//! ends. Commands end soon, with an answer or an error that names the file, and what was not theirs is not written to.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use crate::command::{Done, Scratch, command, copy, run};

/// Past it a command hangs.
const PATIENCE: Duration = Duration::from_secs(60);

fn run_soon(args: &[&str]) -> Done {
    let mut child = command(args)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("{args:?} hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap().into()
}

#[test]
fn special_files_and_links_in_place_of_a_stores_own_are_refused_and_never_followed() {
    let scratch = Scratch::new();
    let whole = scratch.path("whole");
    let size = ["--keys", "3000", "--versions", "6", "--updates", "100", "--readers", "0", "--json"];
    let made = run(&[&["run", &whole, "--workload", "flat"], &size[..]].concat()).ok().json();
    let victim = scratch.file("victim", b"not yours");
    type Trick = fn(&Path, &str);
    let tricks: [(&str, Trick); 5] = [
        ("a pipe", |path, _| assert!(Command::new("mkfifo").arg(path).status().unwrap().success())),
        ("a directory", |path, _| fs::create_dir(path).unwrap()),
        ("a link to itself", |path, _| symlink(path.file_name().unwrap(), path).unwrap()),
        ("a link to a device", |path, _| symlink("/dev/zero", path).unwrap()),
        ("a link elsewhere", |path, victim| symlink(victim, path).unwrap()),
    ];
    let files = [
        "store",
        "lock",
        "catalog.redb",
        "catalog.hash",
        "dead",
        "segments/00000001.seg",
        "log/00000001.log",
    ];
    for (number, file) in files.into_iter().enumerate() {
        for (name, trick) in tricks {
            let dir = scratch.path(&format!("{number}-{}", name.replace(' ', "-")));
            copy(Path::new(&whole), Path::new(&dir));
            let path = Path::new(&dir).join(file);
            if path.exists() {
                fs::remove_file(&path).unwrap();
            }
            trick(&path, &victim);
            for args in [
                &["check", &dir][..],
                &["versions", &dir, "--json"],
                &["stats", &dir],
                &["prune", &dir, "--keep", "3"],
                &["compact", &dir],
            ] {
                let done = run_soon(args);
                let told = format!("{name} for {file}, {args:?}: {}{}", done.stdout, done.stderr);
                assert!(!done.stderr.contains("panicked"), "{told}");
                match done.code {
                    // Done without the file: the lock is the writers', the catalog is made anew, the log is empty.
                    Some(0) if args[0] == "versions" => {
                        assert_eq!(done.json()["root"], made["root"], "{told}")
                    }
                    Some(0) => {}
                    Some(1) => assert!(done.stderr.contains("error: "), "{told}"),
                    code => panic!("{code:?}: {told}"),
                }
            }
            assert_eq!(fs::read(&victim).unwrap(), b"not yours", "{name} for {file}");
        }
    }
}

#[test]
fn a_store_behind_a_circle_of_links_is_an_error() {
    let scratch = Scratch::new();
    let (a, b) = (scratch.path("a"), scratch.path("b"));
    symlink(&a, &b).unwrap();
    symlink(&b, &a).unwrap();
    for args in
        [&["check", &a][..], &["prune", &a, "--keep", "3"], &["run", &a], &["init", &a, "--genesis", &b]]
    {
        let done = run_soon(args);
        assert_eq!(done.code, Some(1), "{args:?}: {}", done.stderr);
        assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
    }
    // The parts of a store that are directories, as links in a circle.
    let dir = scratch.path("store");
    run(&["run", &dir, "--workload", "flat", "--keys", "100", "--versions", "1", "--readers", "0"]).ok();
    for part in ["segments", "log"] {
        let path = Path::new(&dir).join(part);
        let aside = Path::new(&dir).join("aside");
        fs::rename(&path, &aside).unwrap();
        symlink(&path, &path).unwrap();
        let done = run_soon(&["check", &dir]);
        assert!(done.code == Some(1) && !done.stderr.contains("panicked"), "{part}: {}", done.stderr);
        fs::remove_file(&path).unwrap();
        fs::rename(&aside, &path).unwrap();
        run(&["check", &dir]).ok();
    }
}
