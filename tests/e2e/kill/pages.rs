//! After a kill some page of a file of ours is not what was written: that is found where it matters, and
//! what is built is never built from it.

use super::{left, small};
use crate::dice::Dice;
use crate::run::Cmd;
use crate::space::TestSpace;
use crate::tree::assert_same;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PAGE: usize = 4096;

fn is_long() -> bool {
    std::env::var_os("RFS_LONG").is_some()
}

/// Starts a build of a version and kills everything of it somewhere in its midst.
fn killed_build(s: &TestSpace, version: u64, dice: &mut Dice) {
    small::edit(s, version);
    let started = s.start(small::command(0).plain(), true);
    std::thread::sleep(Duration::from_micros(dice.roll(150_000)));
    for process in left::processes(s) {
        let _gone = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
    }
    let _killed = started.finish(None);
}

/// The regular files of the cache and of the workspace's state.
fn files(s: &TestSpace) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![s.cache(), s.path(".rfs")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => dirs.push(entry.path()),
                kind if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

#[derive(Debug, Clone, Copy)]
enum Damage {
    Zero,
    Flip,
    Swap,
}

/// The bytes with a page that is not what was written; none if it is what was written all the same.
fn damaged(bytes: &[u8], page: usize, how: Damage, dice: &mut Dice) -> Option<Vec<u8>> {
    let mut new = bytes.to_vec();
    let range = |page: usize| page * PAGE..((page + 1) * PAGE).min(bytes.len());
    match how {
        Damage::Zero => new[range(page)].fill(0),
        Damage::Flip => {
            let len = u64::try_from(range(page).len()).unwrap();
            let at = page * PAGE + usize::try_from(dice.roll(len)).unwrap();
            new[at] ^= 1 << dice.roll(8);
        }
        Damage::Swap => {
            let n_whole = bytes.len() / PAGE;
            if n_whole < 2 || page >= n_whole {
                return None;
            }
            let other = usize::try_from(dice.roll(n_whole as u64)).unwrap();
            new[range(page)].copy_from_slice(&bytes[range(other)]);
            new[range(other)].copy_from_slice(&bytes[range(page)]);
        }
    }
    (new != bytes).then_some(new)
}

/// Puts back what was there when it was saved.
fn restore(s: &TestSpace, saved: &Path) {
    let script = "rm -rf ../cache .rfs && cp -a \"$1/cache\" ../cache && cp -a \"$1/state\" .rfs";
    s.must(Cmd::new([
        "sh",
        "-c",
        script,
        "sh",
        saved.to_str().unwrap(),
    ]));
}

#[test]
fn no_page_of_any_file_is_believed_that_is_not_what_was_written() {
    let s = TestSpace::new();
    let trees = &small::bare(false).trees;
    let dice = &mut Dice::new(4);
    small::edit(&s, 0);
    let _built = s.rfs(small::command(0)).expect_code(0);
    left::wait_gone(&s, "built");
    killed_build(&s, 1, dice);
    left::wait_gone(&s, "killed");
    let saved = s.root().join("saved");
    fs::create_dir(&saved).unwrap();
    s.must(Cmd::sh(
        "cp -a ../cache ../saved/cache && cp -a .rfs ../saved/state && cp -a out ../saved/out",
    ));

    let mut places = Vec::new();
    for file in files(&s) {
        let n_pages = usize::try_from(fs::metadata(&file).unwrap().len())
            .unwrap()
            .div_ceil(PAGE);
        for page in 0..n_pages {
            places.extend(
                [Damage::Zero, Damage::Flip, Damage::Swap].map(|how| (file.clone(), page, how)),
            );
        }
    }
    assert!(places.len() > 300, "{}", places.len());
    let n_trials = if is_long() { places.len() } else { 70 };
    let mut noticed: BTreeMap<String, usize> = BTreeMap::new();
    for trial in 0..n_trials {
        let place = match is_long() {
            true => trial,
            // Every other one in the two stores, where there is most to believe.
            false => {
                let stores = places.iter().enumerate().filter(|(_, (file, ..))| {
                    trial % 2 == 0 || file.ends_with("index") || file.ends_with("state")
                });
                let stores: Vec<usize> = stores.map(|(at, _)| at).collect();
                stores[usize::try_from(dice.roll(stores.len() as u64)).unwrap()]
            }
        };
        let (file, page, how) = &places[place];
        let bytes = fs::read(saved_path(&s, file)).unwrap();
        let Some(bytes) = damaged(&bytes, *page, *how, dice) else {
            continue;
        };
        restore(&s, &saved);
        fs::remove_file(file).unwrap();
        fs::write(file, bytes).unwrap();
        let version = 1 + dice.roll(small::VERSIONS - 1);
        let when = format!(
            "trial {trial}: {how:?} page {page} of {}, version {version}",
            file.display()
        );
        s.remove("out");
        if dice.roll(2) == 0 {
            s.must("cp -a ../saved/out out");
        }
        small::edit(&s, version);
        let run = s.rfs(small::command(0)).expect_code(0);
        assert_eq!(run.out(), small::SAID, "{when}: {run:#?}");
        assert!(!run.err().contains("panicked"), "{when}: {run:#?}");
        assert_same(&trees[usize::try_from(version).unwrap()], &s.tree(), &when);
        left::wait_gone(&s, &when);
        if run.err().contains("damaged") {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            *noticed.entry(name).or_default() += 1;
        }
    }
    for name in ["index", "state"] {
        assert!(noticed.contains_key(name), "{name}: {noticed:?}");
    }
}

/// Where a file was saved.
fn saved_path(s: &TestSpace, file: &Path) -> PathBuf {
    let saved = s.root().join("saved");
    match file.strip_prefix(s.cache()) {
        Ok(rest) => saved.join("cache").join(rest),
        Err(_) => saved
            .join("state")
            .join(file.strip_prefix(s.path(".rfs")).unwrap()),
    }
}

#[test]
fn who_starts_right_after_a_kill_is_never_refused() {
    let s = TestSpace::new();
    let dice = &mut Dice::new(5);
    let n_kills = if is_long() { 300 } else { 12 };
    for round in 0..n_kills {
        let version = dice.roll(small::VERSIONS);
        killed_build(&s, version, dice);
        let when = format!("kill {round}");
        let run = s.rfs(small::command(0)).expect_code(0);
        assert!(!run.err().contains("warning"), "{when}: {run:#?}");
        let tree = &small::bare(false).trees[usize::try_from(version).unwrap()];
        assert_same(tree, &s.tree(), &when);
        // Nor is a writer of the stores kept waiting by who is dead.
        for words in [
            &["store", "compact"][..],
            &["store", "compact", "--workspace"],
        ] {
            let _anew = s.tool(words).expect_code(0);
        }
    }
}
