//! A job by rules that sees a directory in the place of another: what strace saw in such a mount namespace is
//! a subset of what was recorded, by the names of the files themselves.

use super::compare::{Recorded, compare};
use super::demand::Oracle;
use super::names::Names;
use super::strace::{self, Log};
use super::{Program, first};
use crate::run::Cmd;
use crate::space::TestSpace;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// By links, `..`, the working directory and descriptors; python opens directories and files below them.
const CMD: &str = "cd cur; cat f ../cur/sub/g l nope > ../out || :; ls -l >> ../out; cd sub/..; test -e ../cur/sub/none || :; \
    head -c1 ../up/f >> ../out; python3 -S -c 'import os; d = os.open(\".\", os.O_RDONLY); os.listdir(d); os.stat(\"sub\", dir_fd=d); \
    os.fstat(os.open(\"f\", os.O_RDONLY, dir_fd=d)); os.stat(\"/proc/self/cwd/m\"); os.chdir(d); os.readlink(\"l\"); os.stat(os.getcwd() + \"/h\")'; \
    mkdir made; echo x > made/y; mv made/y z; ln z y; cat y /proc/self/cwd/z >> ../out; rm -r made y z";

fn furnish(space: &TestSpace) {
    space.write(
        "Rfsfile",
        format!("rule('use', targets = 'out', views = {{'cur': 'v/one'}}, cmd = {CMD:?})\n"),
    );
    for name in ["f", "h", "m", "sub/g", "sub/k"] {
        space.write(Path::new("v/one").join(name), name);
    }
    space.symlink("sub/../sub/k", "v/one/l");
    space.symlink("cur/sub/..", "up");
    space.mkdir("cur");
}

fn by_real_names<T>(of: BTreeMap<PathBuf, T>, ws: &Path) -> BTreeMap<PathBuf, T> {
    let real = |path: PathBuf| match path.strip_prefix(ws.join("cur")) {
        Ok(rest) => ws.join("v/one").join(rest).components().collect(),
        Err(_) => path,
    };
    of.into_iter().map(|(path, of)| (real(path), of)).collect()
}

#[test]
fn views_of_jobs() {
    let space = TestSpace::new();
    furnish(&space);
    let ws = space.ws().to_owned();
    let mut names = Names::of(space.root());
    for path in names.below(&ws.join("v/one")) {
        let seen = ws
            .join("cur")
            .join(path.strip_prefix(ws.join("v/one")).unwrap());
        names.set(&seen, names.at(&path));
    }
    let log = space.root().join("strace.log");
    let mut words: Vec<String> = [
        "unshare",
        "-m",
        "sh",
        "-ec",
        "mount --bind v/one cur; exec env -i \"$@\"",
        "sh",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ]
    .map(str::to_owned)
    .into();
    words.extend(strace::options(log.to_str().unwrap()));
    words.extend(["/bin/sh", "-ec", CMD].map(str::to_owned));
    let _bare = space.bare(Cmd::new(words)).expect_code(0);
    let text = fs::read(&log).unwrap();
    let log = Log::read(&String::from_utf8_lossy(&text));
    let mut oracle = Oracle::of(&log, &ws, names);
    for demand in &mut oracle.demands {
        demand.looks = by_real_names(std::mem::take(&mut demand.looks), &ws);
        demand.changed = by_real_names(std::mem::take(&mut demand.changed), &ws);
        // The job's own target and its directory are the engine's to put in place.
        demand
            .looks
            .retain(|path, _| *path != ws && *path != ws.join("out"));
    }
    let n_looks = oracle.demands[0].looks.len();
    assert!(n_looks > 50, "only {n_looks} names were looked at");
    space.wipe();
    furnish(&space);
    let program = Program::default();
    let rfs = space.program().to_str().unwrap();
    for (n, tracer) in ["notify", "ptrace"].into_iter().enumerate() {
        let cache = space.root().join(format!("cache-{n}"));
        let cache = cache.to_str().unwrap();
        let options = ["--tracer", tracer, "--cache-dir", cache, "--rerun"];
        let mut words = vec![rfs, "build"];
        words.extend(options);
        words.push("out");
        let run = space.bare(Cmd::new(words)).expect_code(0);
        let told = space.tool(&["cache", "records", "--json", "--cache-dir", cache]);
        let recorded = Recorded::read(&told.out(), &program.temporary);
        let report = compare(&oracle, &recorded, &ws, &program);
        eprintln!("{tracer}: {report}");
        let missed = first(&report.missed);
        assert!(
            missed.is_empty(),
            "{tracer} has not recorded\n{missed}\n{}",
            run.err()
        );
        let tells = |name: &str| told.out().contains(&format!("\"path\":\"{name}\""));
        assert!(tells("v/one/f") && !tells("cur/f"), "{}", told.out());
    }
}
