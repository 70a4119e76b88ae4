//! The suites and programs that lean on a filesystem, under `rfs build`: pjdfstest, fsx, git, SQLite, tar,
//! rsync and cp. As root (with passthrough) and as an ordinary user (without).

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::probe::assert_same_run;
use crate::run::{Cmd, Run};
use crate::space::{Setting, TestSpace};
use crate::tree::assert_same;

const SETTINGS: [Setting; 2] = [
    Setting {
        nobody: false,
        tracer: None,
    },
    Setting {
        nobody: true,
        tracer: None,
    },
];

/// Cases of pjdfstest.
const N_CASES: usize = 398;

/// A program that tests/run.sh installs, for every user.
fn suite(s: &TestSpace, name: &str) -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let installed = exe.ancestors().nth(3).unwrap().join("tools/bin").join(name);
    let to = s.root().join(name);
    // Not by this process: a child of another test would hold the copy open for writing.
    let copied = Command::new("cp").args([&installed, &to]).status().unwrap();
    let from = installed.display();
    assert!(copied.success(), "no {from}: sh tests/run.sh installs it");
    to
}

/// What became of each case: its word (`ok`, `FAILED`, `skipped`).
fn verdicts(run: &Run) -> BTreeMap<String, String> {
    let out = run.out();
    let verdict = |line: &str| {
        let (name, word) = line.split_once(' ')?;
        let word = word.trim();
        let known = ["ok", "FAILED", "skipped"].contains(&word);
        known.then(|| (name.to_owned(), word.to_owned()))
    };
    let verdicts: BTreeMap<_, _> = out.lines().filter_map(verdict).collect();
    assert_eq!(verdicts.len(), N_CASES, "{run:#?}");
    verdicts
}

/// The gaps that the document lists, as fs/tests/conformance.rs reads them.
fn known_gaps() -> BTreeMap<String, String> {
    let text = include_str!("../../doc/semantics.md");
    let gap = |line: &str| {
        let (name, rest) = line.strip_prefix("- `")?.split_once("` (pjdfstest) ")?;
        let word = match rest.split_once(':')?.0 {
            "is skipped" => "skipped",
            _ => "FAILED",
        };
        Some((name.to_owned(), word.to_owned()))
    };
    text.lines().filter_map(gap).collect()
}

/// Tracer and view together answer each system call of the suite as the kernel alone does.
#[test]
fn pjdfstest_finds_what_is_documented() {
    for setting in SETTINGS {
        let s = TestSpace::with(setting);
        let program = suite(&s, "pjdfstest");
        let text = "[features]\nposix_fallocate = {}\nutimensat = {}\nutime_now = {}\nrename_ctime = {}\n\
                    [settings]\nnaptime = 0.02\nallow_remount = false\nexpected_failures = []\n\
                    [dummy_auth]\nentries = [[\"nobody\", \"nogroup\"], [\"daemon\", \"daemon\"]]\n";
        fs::write(s.root().join("outside/config.toml"), text).unwrap();
        let memory = tempfile::TempDir::new_in("/dev/shm").unwrap();
        if setting.nobody {
            std::os::unix::fs::chown(memory.path(), Some(65534), Some(65534)).unwrap();
        }
        let cmd = || {
            let mut cmd = Cmd::new([program.as_os_str()]);
            let words = ["-c", "../outside/config.toml", "-p", ".", "-s"];
            cmd.argv.extend(words.map(Into::into));
            cmd.argv.push(memory.path().into());
            cmd
        };
        let mut expected = verdicts(&s.bare(cmd()));
        expected.extend(known_gaps());
        let found = verdicts(&s.rfs(cmd()));
        let differing: Vec<_> = found
            .iter()
            .filter(|(name, word)| expected.get(*name) != Some(word))
            .collect();
        assert!(differing.is_empty(), "{setting:?}: {differing:?}");
    }
}

/// What it has made is recorded and served to the byte.
#[test]
fn fsx_finds_nothing_and_is_served() {
    for setting in SETTINGS {
        let s = TestSpace::with(setting);
        let program = suite(&s, "fsx");
        let weights = "[weights]\nclose_open = 1\ninvalidate = 1\nmapread = 1\nmapwrite = 1\nread = 1\n\
                       write = 1\ntruncate = 1\nfsync = 0.1\nposix_fallocate = 1\npunch_hole = 1\n\
                       sendfile = 1\nposix_fadvise = 1\ncopy_file_range = 1\n";
        s.write("../outside/fsx.toml", format!("flen = 100000\n{weights}"));
        let program = program.to_str().unwrap();
        let line = format!("{program} -f ../outside/fsx.toml -q -N 2000 -S 5 exercised");
        let _bare = s.bare(line.as_str()).expect_code(0);
        let tree = s.tree();
        s.remove("exercised");
        let _ran = s.rfs(line.as_str()).expect_code(0).expect_ran();
        assert_same(&tree, &s.tree(), "ran");
        s.remove("exercised");
        let _again = s.rfs(line.as_str()).expect_code(0);
        assert_same(&tree, &s.tree(), "again");
    }
}

/// The same script bare and wrapped, twice: same output, same tree.
fn compare(what: &str, script: &str, setup: impl Fn(&TestSpace)) {
    for setting in SETTINGS {
        let s = TestSpace::with(setting);
        setup(&s);
        let bare = s.bare(Cmd::sh(script)).expect_code(0);
        let tree = s.tree();
        for round in ["ran", "again"] {
            s.wipe();
            setup(&s);
            let wrapped = s.rfs(Cmd::sh(script));
            let when = format!("{what} {round} {setting:?} {wrapped:#?}");
            assert_same_run(&bare, &wrapped, &when);
            assert_same(&tree, &s.tree(), &when);
        }
    }
}

/// A repository is made, cloned, packed and checked. Its index holds inode numbers and times, so that the tree
/// is compared without it.
#[test]
fn git() {
    let script = "set -e\n\
        export GIT_AUTHOR_DATE='@1000000000 +0000' GIT_COMMITTER_DATE='@1000000000 +0000'\n\
        export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a\n\
        git init -q -b main repository; cd repository\n\
        for n in 1 2 3 4 5 6 7 8 9; do mkdir -p d$n; seq $n 1000 > d$n/f; ln -s f d$n/link; done\n\
        chmod +x d3/f; git add .; git commit -q -m one\n\
        git mv d1 moved; echo x >> d2/f; git commit -q -a -m two; git status --short\n\
        echo y >> d4/f; git stash -q; git status --short; git stash pop -q; git status --short\n\
        git reset -q --hard; git checkout -q -b other HEAD~; git status --short; git merge -q main\n\
        git gc -q; git fsck --strict; git status --short; cd ..\n\
        git clone -q --no-local repository clone; git clone -q --local repository local\n\
        cd clone; git status --short; git log --oneline | cat; git -c core.preloadIndex=true diff --stat\n\
        cd ..; find . -name .git -prune -o -type f -print | sort | xargs sha256sum\n\
        rm -rf repository/.git clone/.git local/.git\n";
    compare("git", script, |_| {});
}

/// Two connections to a database in WAL mode, whose index is a shared mapping, and a third process.
#[test]
fn sqlite_in_wal_mode() {
    let program = "import sqlite3, subprocess, sys, threading\n\
        def connect(): return sqlite3.connect('base', timeout=60, isolation_level=None)\n\
        if len(sys.argv) > 1:\n\
        \x20   one = connect()\n\
        \x20   for n in range(50): one.execute('insert into t values (?, ?)', (sys.argv[1], n))\n\
        \x20   sys.exit()\n\
        one = connect()\n\
        print(one.execute('pragma journal_mode = wal').fetchone())\n\
        one.execute('create table t (who text, n int)')\n\
        def insert(who):\n\
        \x20   two = connect()\n\
        \x20   for n in range(50): two.execute('insert into t values (?, ?)', (who, n))\n\
        threads = [threading.Thread(target=insert, args=(w,)) for w in 'abc']\n\
        others = [subprocess.Popen([sys.executable, sys.argv[0], w]) for w in 'xyz']\n\
        for t in threads: t.start()\n\
        for t in threads: t.join()\n\
        print([o.wait() for o in others])\n\
        print(one.execute('pragma integrity_check').fetchall())\n\
        print(one.execute('select who, count(*), sum(n) from t group by who').fetchall())\n\
        print(one.execute('pragma wal_checkpoint(truncate)').fetchone()[0])\n\
        one.close()\n";
    let script = "python3 -B try.py; ls; rm -f base";
    compare("sqlite", script, |s| s.write("try.py", program));
}

/// Archives and copies keep what a tree has: holes, links, modes, times.
#[test]
fn archives_and_copies() {
    let script = "set -e\n\
        truncate -s 3M tree/sparse; printf x | dd of=tree/sparse bs=1 seek=1M conv=notrunc status=none\n\
        find tree -exec touch -h -d @1111111111 {} +\n\
        tar -cSf a.tar tree; mkdir one; tar -xpf a.tar -C one\n\
        cp -a --reflink=auto --sparse=auto tree two; cp -al tree three; mkdir four\n\
        (cd tree && tar -cf - .) | (cd four && tar -xf -)\n\
        rsync -aHS --delete tree/ five/; rsync -aHS --delete --itemize-changes tree/ five/\n\
        rsync -aH --delete --inplace four/ five/\n\
        for copy in one/tree two three four five; do\n\
        \x20   diff -r tree $copy; (cd $copy; find . -printf '%p %M %s %n %T@ %l\\n' | sort)\n\
        done\n\
        rm a.tar\n";
    compare("archives", script, |s| {
        s.write("tree/file", "content\n");
        s.script("tree/deep/er/script", "#!/bin/sh\n");
        s.write("tree/deep/shut", "secret\n");
        s.chmod("tree/deep/shut", 0o600);
        s.symlink("../file", "tree/deep/link");
        s.must(Cmd::sh("ln tree/file tree/deep/hard; mkdir tree/empty"));
        s.write("tree/large", vec![7; 2_000_000]);
    });
}
