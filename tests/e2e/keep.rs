//! What keeps the cache and the stores: looking at them, making room, mending, beside builds and alone.

use crate::kill::{left, small};
use crate::run::{Cmd, Run};
use crate::space::TestSpace;
use crate::terminal::Session;
use crate::tree::assert_same;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

fn rfs(s: &TestSpace, words: &str) -> Run {
    let words: Vec<&str> = words.split(' ').collect();
    s.tool(&words)
}

fn json(run: &Run) -> serde_json::Value {
    serde_json::from_str(&run.out()).unwrap_or_else(|error| panic!("{error}: {run:#?}"))
}

fn stats(s: &TestSpace) -> serde_json::Value {
    json(&rfs(s, "cache stats --json").expect_code(0))
}

/// A space in which version 0 was built.
fn built() -> TestSpace {
    let s = TestSpace::new();
    small::edit(&s, 0);
    let _built = s.rfs(small::command(0)).expect_code(0);
    left::wait_gone(&s, "built");
    s
}

fn build(s: &TestSpace, version: u64, when: &str) -> Run {
    small::edit(s, version);
    let run = s.rfs(small::command(0)).expect_code(0);
    let tree = &small::bare(false).trees[usize::try_from(version).unwrap()];
    assert_same(tree, &s.tree(), when);
    left::wait_gone(s, when);
    run
}

fn blobs(s: &TestSpace) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for shard in fs::read_dir(s.cache().join("blobs")).unwrap() {
        let blobs = fs::read_dir(shard.unwrap().path()).unwrap();
        found.extend(blobs.map(|blob| blob.unwrap().path()));
    }
    found
}

/// Contents of the last hour stay: now they are older.
fn age(s: &TestSpace) {
    for blob in blobs(s) {
        s.set_mtime(blob, 1_000_000_000);
    }
}

fn zero(path: &Path, page: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[page * 4096..][..4096].fill(0);
    fs::write(path, bytes).unwrap();
}

#[test]
fn stores_are_looked_at_and_written_anew() {
    let s = built();
    // What a build makes of what it has left is another execution.
    let _settled = build(&s, 0, "built again");
    for (which, has_builds) in [("", false), (" --workspace", true)] {
        let check = rfs(&s, &format!("store check{which}")).expect_code(0);
        assert!(check.out().contains("whole"), "{check:#?}");
        let before = json(&rfs(&s, &format!("store stats --json{which}")).expect_code(0));
        assert_eq!(before["schema"], "rfs.store/1");
        assert!(before["executions"].as_u64() > Some(3), "{before:#}");
        assert_eq!(
            before["builds"].as_u64() > Some(0),
            has_builds,
            "{before:#}"
        );
        let text = rfs(&s, &format!("store stats{which}")).expect_code(0);
        assert!(text.out().contains("tree of names"), "{text:#?}");
        let dump = rfs(&s, &format!("store dump{which}")).expect_code(0);
        for what in ["name ", "content ", "file ", "execution "] {
            assert!(
                dump.out().lines().any(|line| line.starts_with(what)),
                "{what}"
            );
        }
        let _anew = rfs(&s, &format!("store compact{which}")).expect_code(0);
        let after = json(&rfs(&s, &format!("store stats --json{which}")).expect_code(0));
        for what in ["executions", "keys", "deps", "builds", "files"] {
            assert_eq!(before[what], after[what], "{what}{which}");
        }
    }
    let again = build(&s, 0, "compacted");
    assert_eq!(again.summary.unwrap().ran, 0);
}

#[test]
fn a_damaged_store_is_told_set_aside_and_mended() {
    let s = built();
    for (which, file) in [
        ("", s.cache().join("index")),
        (" --workspace", s.path(".rfs/state")),
    ] {
        let n_pages = fs::metadata(&file).unwrap().len() / 4096;
        // The last page in use, of whatever table.
        let whole = fs::read(&file).unwrap();
        let used = |page: &usize| whole[page * 4096..][..4096].iter().any(|byte| *byte != 0);
        let pages = (16..usize::try_from(n_pages).unwrap()).rev().filter(used);
        let damaged = pages.into_iter().find(|page| {
            fs::write(&file, &whole).unwrap();
            zero(&file, *page);
            rfs(&s, &format!("store check{which}")).code() == 1
        });
        assert!(damaged.is_some(), "{}", file.display());
        let stats = rfs(&s, &format!("store stats{which}"));
        assert_ne!(stats.code(), 0);
        assert!(stats.err().contains("store repair"), "{stats:#?}");
        let repaired = rfs(&s, &format!("store repair{which}")).expect_code(0);
        assert!(repaired.out().contains("taken over"), "{repaired:#?}");
        assert!(!file.with_extension("damaged").exists());
        let _whole = rfs(&s, &format!("store check{which}")).expect_code(0);
        let nothing = rfs(&s, &format!("store repair{which}")).expect_code(0);
        assert!(nothing.out().contains("nothing to repair"), "{nothing:#?}");
        let _built = build(&s, 1, "repaired");
        let _built = build(&s, 0, "repaired, and back");
    }
}

#[test]
fn room_is_made_verified_and_cleared() {
    let s = built();
    let before = stats(&s);
    assert!(before["keys"].as_u64() > Some(3), "{before:#}");
    assert_eq!(before["max_size"], 20_u64 << 30);
    assert!(s.cache().join("CACHEDIR.TAG").exists() && s.exists(".rfs/CACHEDIR.TAG"));
    let _pinned = rfs(&s, "cache pin --json copy.sh").expect_code(0);
    assert_eq!(stats(&s)["pinned"], 1);
    age(&s);
    let freed = json(&rfs(&s, "cache gc --max-size 0 --json").expect_code(0));
    assert!(freed["records_freed"].as_u64() > Some(2), "{freed:#}");
    assert!(freed["bytes_freed"].as_u64() > Some(0), "{freed:#}");
    let left = stats(&s);
    assert_eq!((&left["keys"], &left["pinned"]), (&1.into(), &1.into()));
    let verified = json(&rfs(&s, "cache verify --json").expect_code(0));
    assert_eq!(
        (&verified["records"], &verified["lost"]),
        (&1.into(), &0.into())
    );
    let _rest = rfs(&s, "cache pin --off copy.sh").expect_code(0);
    let freed = json(&rfs(&s, "cache gc --max-size 0 --json").expect_code(0));
    assert_eq!(freed["blob_bytes"], 0);
    let _built = build(&s, 1, "after the last went");

    let blob = blobs(&s).pop().unwrap();
    fs::remove_file(&blob).unwrap();
    fs::write(&blob, "something else").unwrap();
    let wrong = rfs(&s, "cache verify").expect_code(1);
    assert!(wrong.err().contains("damaged"), "{wrong:#?}");
    assert!(!blob.exists());
    let _whole = rfs(&s, "cache verify").expect_code(0);
    let cleared = json(&rfs(&s, "cache clear --json").expect_code(0));
    assert_eq!(cleared["blob_bytes"], 0);
    assert_eq!((&stats(&s)["keys"], blobs(&s).len()), (&0.into(), 0));
    let _built = build(&s, 2, "after all went");
}

#[test]
fn a_build_keeps_the_cache_within_its_size() {
    let s = built();
    let n_keys = stats(&s)["keys"].as_u64().unwrap();
    assert!(n_keys > 3, "as large as it likes: {n_keys}");
    s.write("rfs.toml", "[cache]\nsize = '1K'\n");
    assert_eq!(stats(&s)["max_size"], 1024);
    age(&s);
    small::edit(&s, 1);
    let _built = s.rfs(small::command(1)).expect_code(0);
    left::wait_gone(&s, "built with less room");
    let left = stats(&s);
    assert!(left["keys"].as_u64().unwrap() < n_keys, "{left:#}");
    // What the second build has made is of the last hour.
    let young = blobs(&s).iter().all(|blob| {
        let time = fs::metadata(blob).unwrap().modified().unwrap();
        time.elapsed().unwrap().as_secs() < 3600
    });
    assert!(young || left["keys"].as_u64() > Some(0));
}

#[test]
fn room_is_made_beside_builds() {
    let s = built();
    let over = AtomicBool::new(false);
    let n_rounds = if std::env::var_os("RFS_LONG").is_some() {
        200
    } else {
        12
    };
    std::thread::scope(|scope| {
        let making_room = scope.spawn(|| {
            let mut n_done = 0;
            while !over.load(Ordering::Relaxed) || n_done < 3 {
                if let Ok(shards) = fs::read_dir(s.cache().join("blobs")) {
                    drop(shards);
                    age_what_is_there(&s);
                }
                for words in ["cache gc --max-size 20K", "store compact", "cache clear"] {
                    let _done = rfs(&s, words).expect_code(0);
                }
                n_done += 1;
            }
        });
        for round in 0..n_rounds {
            let version = round % small::VERSIONS;
            let when = format!("round {round}");
            small::edit(&s, version);
            let run = s.rfs(small::command(0)).expect_code(0);
            assert!(!run.err().contains("panicked"), "{when}: {run:#?}");
            assert!(!run.err().contains("damaged"), "{when}: {run:#?}");
            let tree = &small::bare(false).trees[usize::try_from(version).unwrap()];
            assert_same(tree, &s.tree(), &when);
        }
        over.store(true, Ordering::Relaxed);
        making_room.join().unwrap();
    });
    left::wait_gone(&s, "beside each other");
    small::assert_whole_cache(&s, "beside each other");
}

/// As [`age`], where others remove what is found.
fn age_what_is_there(s: &TestSpace) {
    let script = "find \"$1\" -type f -exec touch -d @1000000000 {} + 2>/dev/null; true";
    let dir = s.cache().join("blobs");
    let _aged = s.bare(Cmd::new(["sh", "-c", script, "sh", dir.to_str().unwrap()]));
}

#[test]
fn long_work_tells_how_far_it_is_on_a_terminal_only() {
    let s = TestSpace::new();
    let _large = s
        .rfs(Cmd::sh("head -c 40000000 /dev/zero > zeros"))
        .expect_code(0);
    left::wait_gone(&s, "built");
    let program = s.program().to_str().unwrap().to_owned();
    let cmd = Cmd::new([program.as_str(), "cache", "verify"]);
    let shown = Session::start(&s, &cmd, false).end();
    assert!(shown.1.contains("rfs: looked at "), "{shown:?}");
    let plain = rfs(&s, "cache verify").expect_code(0);
    assert_eq!(plain.err(), "");
    age(&s);
    let cmd = Cmd::new([program.as_str(), "cache", "gc", "--max-size", "0"]);
    let shown = Session::start(&s, &cmd, false).end();
    assert!(shown.1.contains("rfs: freed "), "{shown:?}");
}
