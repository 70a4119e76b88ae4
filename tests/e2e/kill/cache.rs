//! The cache goes away in mid-build: the build does not care, and the next one is right.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::{left, small};
use crate::dice::Dice;
use crate::run;
use crate::space::{Setting, TestSpace};
use crate::tree::assert_same;

/// What is done to the cache, by its name.
const DEEDS: [&str; 7] = ["remove", "blobs", "index", "tmp", "shut", "file", "move"];

fn shut(dir: &Path, mode: u32) {
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        // Somebody is building with it.
        let Ok(entries) = fs::read_dir(&dir) else {
            continue;
        };
        dirs.extend(
            entries
                .flatten()
                .map(|e| e.path())
                .filter(|path| path.is_dir()),
        );
        let _gone = fs::set_permissions(&dir, fs::Permissions::from_mode(mode));
    }
}

fn remove(dir: &Path) {
    // Somebody may put new files there.
    for _ in 0..1000 {
        let done = fs::remove_dir_all(dir);
        if done.is_ok() || done.is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
            return;
        }
    }
}

fn spoil(s: &TestSpace, deed: &str) {
    let cache = s.cache();
    match deed {
        "remove" => remove(&cache),
        "blobs" | "tmp" => remove(&cache.join(deed)),
        "index" => drop(fs::remove_file(cache.join(deed))),
        "shut" => shut(&cache, 0o555),
        "file" => {
            remove(&cache);
            let _taken = fs::write(&cache, "somebody's\n");
        }
        _ => drop(fs::rename(&cache, s.root().join("cache.moved"))),
    }
}

/// Makes it a place for a cache again.
fn mend(s: &TestSpace, deed: &str) {
    match deed {
        "shut" => shut(&s.cache(), 0o700),
        "file" => drop(fs::remove_file(s.cache())),
        "move" => remove(&s.root().join("cache.moved")),
        _ => {}
    }
}

#[test]
fn cache_goes_away_in_mid_build() {
    let longer = if std::env::var_os("RFS_LONG").is_some() {
        20
    } else {
        1
    };
    // Permissions mean nothing to root.
    let s = TestSpace::with(Setting {
        nobody: true,
        ..Setting::default()
    });
    let bare = small::bare(true);
    let mut takes = 1_000_000;
    for seed in 0..21 * longer {
        let dice = &mut Dice::new(seed);
        let version = dice.roll(small::VERSIONS);
        let deed = DEEDS[usize::try_from(seed).unwrap() % DEEDS.len()];
        let when = format!("seed {seed}: {deed}, version {version}");
        small::edit(&s, version);
        s.remove("out");
        let rerun = dice.roll(2) == 0;
        let mut options = vec!["-q".into()];
        options.extend(rerun.then(|| "--rerun".into()));
        let (started, _) = run::start(s.build_command(options, &small::command(seed)), false);
        thread::sleep(Duration::from_micros(dice.roll(takes)));
        spoil(&s, deed);
        let (status, stdout, stderr) = started.finish(None);
        let said = String::from_utf8_lossy(&stderr);
        assert!(
            status.success() && stdout == small::SAID.as_bytes(),
            "{when}: {status}: {said}"
        );
        assert!(!said.contains("panicked"), "{when}: {said}");
        let n_warnings = said
            .lines()
            .filter(|line| line.starts_with("rfs: warning"))
            .count();
        assert!(n_warnings <= 2, "{when}: {said}");
        left::wait_gone(&s, &when);
        left::assert_unmounted(&s, &[], &when);
        let tree = &bare.trees[usize::try_from(version).unwrap()];
        assert_same(tree, &s.tree(), &when);

        mend(&s, deed);
        small::edit(&s, (version + 1) % small::VERSIONS);
        let since = Instant::now();
        let next = s.rfs(small::command(1000 + seed)).expect_code(0);
        takes = u64::try_from(since.elapsed().as_micros()).unwrap();
        let tree = &bare.trees[usize::try_from((version + 1) % small::VERSIONS).unwrap()];
        assert_same(tree, &s.tree(), &format!("{when}, next: {next:#?}"));
        small::assert_whole_cache(&s, &when);
    }
}
