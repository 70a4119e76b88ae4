//! Real projects: a bare and a wrapped build at the same path leave equal trees, and the second
//! clean wrapped build starts no compiler. The sources are fetched by tests/bench/fetch.sh.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use crate::run::{Cmd, Run};
use crate::space::TestSpace;
use crate::tree::Tree;

/// Bare builds that may be needed to see that what differs from bare differs between them as well.
const MAX_BARE: usize = 12;

const COMPILERS: [&str; 8] = ["cc", "gcc", "g++", "c++", "cc1", "cc1plus", "as", "rustc"];

/// Puts the pristine source of `project` into a directory of the space, once a test binary has fetched it.
pub fn unpack(space: &TestSpace, project: &str, into: &str) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let sources = Path::new(env!("CARGO_TARGET_TMPDIR")).join("projects");
    {
        let _turn = ONE_AT_A_TIME.lock().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/fetch.sh");
        let mut fetch = Command::new("sh");
        fetch.arg(script).arg(&sources).arg(project);
        assert!(fetch.status().unwrap().success(), "fetch {project}");
    }
    let into = space.path(into);
    fs::create_dir_all(&into).unwrap();
    copy(&sources.join(project), &into);
}

/// Copies what is in `from` into `to`, time stamps and all.
fn copy(from: &Path, to: &Path) {
    let mut cp = Command::new("cp");
    cp.arg("-a").arg(from.join(".")).arg(to);
    assert!(cp.status().unwrap().success(), "copy {}", from.display());
}

/// A build may take a while on a busy machine.
fn long(mut command: Cmd) -> Cmd {
    command.patience = Duration::from_secs(900);
    command
}

/// One project: how to lay it out, what to run, and what no two builds of it have in common.
pub struct Project {
    lay: Box<dyn Fn(&TestSpace)>,
    commands: Vec<Cmd>,
    /// Paths, or their beginnings before a `*`, each with a reason beside it.
    varies: &'static [&'static str],
    /// It prints what `ls -l` says of files that it has just made.
    lists: bool,
}

/// A line of `ls -l` without its time stamp.
fn listed(line: &str) -> Option<String> {
    let words: Vec<_> = line.split_whitespace().collect();
    let is_one = words.len() >= 9 && words[0].len() == 10 && words[0].starts_with('-');
    is_one.then(|| [&words[..5], &words[8..]].concat().join(" "))
}

impl Project {
    fn new(name: &'static str, commands: impl IntoIterator<Item = Cmd>) -> Self {
        Self {
            lay: Box::new(move |space| unpack(space, name, "")),
            commands: commands.into_iter().map(long).collect(),
            varies: &[],
            lists: false,
        }
    }

    /// Laid out by hand.
    pub fn laid(
        lay: impl Fn(&TestSpace) + 'static,
        commands: impl IntoIterator<Item = Cmd>,
    ) -> Self {
        Self {
            lay: Box::new(lay),
            commands: commands.into_iter().map(long).collect(),
            varies: &[],
            lists: false,
        }
    }

    /// It prints what `ls -l` says of files that it has just made: with the time of the day.
    pub fn lists(mut self) -> Self {
        self.lists = true;
        self
    }

    pub fn varies(mut self, paths: &'static [&'static str]) -> Self {
        self.varies = paths;
        self
    }

    /// Lays out the project, runs its commands by `how`, and returns how they went.
    fn build(&self, space: &TestSpace, how: impl Fn(&Cmd) -> Run) -> Vec<Run> {
        space.wipe();
        (self.lay)(space);
        let runs = self.commands.iter().map(|cmd| how(cmd).expect_code(0));
        runs.collect()
    }

    /// Bare, wrapped and wrapped again from clean; `space` is left as the last one leaves it. Gives
    /// the runs of the last one.
    pub fn check(&self, space: &TestSpace) -> Vec<Run> {
        let bare = self.build(space, |cmd| space.bare(cmd.clone()));
        let expected = space.tree();
        let mut excused = BTreeSet::new();

        let first = self.build(space, |cmd| space.rfs(cmd.clone()));
        self.compare("first", &bare, &first, &expected, space, &mut excused);

        let second = self.build(space, |cmd| space.rfs(cmd.clone()));
        for (run, first) in second.iter().zip(&first) {
            let refused = first
                .explain
                .iter()
                .filter(|line| line.starts_with("rfs: refused "));
            let refused: Vec<_> = refused.take(10).collect();
            assert_no_compiler(run, &refused);
        }
        self.compare("second", &bare, &second, &expected, space, &mut excused);
        self.show_that_bare_differs(space, &expected, excused);
        second
    }

    fn compare(
        &self,
        when: &str,
        bare: &[Run],
        wrapped: &[Run],
        expected: &Tree,
        space: &TestSpace,
        excused: &mut BTreeSet<PathBuf>,
    ) {
        for (bare, wrapped) in bare.iter().zip(wrapped) {
            let lines = |bytes: &[u8]| {
                let text = String::from_utf8_lossy(bytes).into_owned();
                let said = text.lines().map(|line| match listed(line) {
                    Some(what) if self.lists => what,
                    Some(_) | None => line.to_owned(),
                });
                let mut lines: Vec<_> = said.collect();
                // Parallel jobs print in the order in which they end.
                lines.sort();
                lines
            };
            assert_eq!(lines(&bare.stdout), lines(&wrapped.stdout), "{when}");
            assert_eq!(lines(&bare.stderr), lines(&wrapped.stderr), "{when}");
        }
        let found = space.tree();
        let (known, wrong): (Vec<_>, Vec<_>) = expected
            .differing(&found)
            .into_iter()
            .partition(|path| self.is_known_to_vary(path));
        assert!(
            wrong.is_empty(),
            "{when}: the trees differ\n{}",
            expected.diff(&found)
        );
        excused.extend(known);
    }

    fn is_known_to_vary(&self, path: &Path) -> bool {
        let path = path.to_string_lossy();
        self.varies.iter().any(|known| match known.split_once('*') {
            None => *known == path,
            Some((head, tail)) => path.starts_with(head) && path.contains(tail),
        })
    }

    /// Builds bare until each path has differed between two bare builds as well.
    fn show_that_bare_differs(
        &self,
        space: &TestSpace,
        expected: &Tree,
        mut excused: BTreeSet<PathBuf>,
    ) {
        for _ in 0..MAX_BARE {
            if excused.is_empty() {
                return;
            }
            let _runs = self.build(space, |cmd| space.bare(cmd.clone()));
            for path in expected.differing(&space.tree()) {
                excused.remove(&path);
            }
        }
        panic!("equal in all bare builds, but not under rfs: {excused:?}");
    }
}

/// Fails if a step of the run that was not served is a compiler.
fn assert_no_compiler(run: &Run, refused: &[&String]) {
    let not_served = run
        .explain
        .iter()
        .filter(|line| !line.starts_with("rfs: hit "));
    let is_compiler = |line: &&String| {
        let program = line.split_whitespace().nth(2).unwrap_or_default();
        let name = program.trim_end_matches(':').rsplit('/').next();
        name.is_some_and(|name| COMPILERS.contains(&name))
    };
    let first: Vec<_> = not_served.clone().take(10).collect();
    if let Some(line) = not_served.clone().find(is_compiler) {
        panic!(
            "a compiler ran: {line}\nthe first steps that were not served: {first:#?}\n\
             refused in the first run: {refused:#?}"
        );
    }
}

/// The source files that were compiled, of a project that says `gcc ... -c -o OBJECT SOURCE`.
fn compiled(run: &Run) -> Vec<&str> {
    let lines = run
        .explain
        .iter()
        .filter(|line| line.starts_with("rfs: ran  gcc "));
    let commands = lines.filter_map(|line| line.split(": because").next());
    let compiles = commands.filter(|command| command.contains(" -c "));
    compiles
        .filter_map(|command| command.split(' ').next_back())
        .collect()
}

fn lua() -> Cmd {
    let fixed = ["make", "-j2", "-C", "src", "all"];
    Cmd::new(
        fixed
            .into_iter()
            .chain(["MYCFLAGS=-DLUA_USE_LINUX", "MYLIBS=-Wl,-E -ldl"]),
    )
}

/// The second build is but one step, which is served.
fn whole(runs: &[Run]) {
    for run in runs {
        assert!(run.summary().whole_hit, "{run:#?}");
    }
}

#[test]
fn lua_is_served_whole_and_an_edit_compiles_one_file() {
    let space = TestSpace::new();
    whole(&Project::new("lua", [lua()]).check(&space));

    // A second no-op looks at nothing that the first one has not settled.
    let _settles = space.rfs(lua()).expect_code(0);
    let _served = space.rfs(lua()).expect_code(0).expect_hit();

    space.append("src/lapi.c", "\n/* edited */\n");
    let edited = space.rfs(lua()).expect_code(0).expect_ran();
    assert_eq!(compiled(&edited), ["lapi.c"], "{edited:#?}");
    let answer = space.bare("src/lua -e print(6*7)").expect_code(0);
    assert_eq!(answer.out(), "42\n");
    let nothing_to_do = space.bare("make -C src -q all MYCFLAGS=-DLUA_USE_LINUX");
    let _up_to_date = nothing_to_do.expect_code(0);
}

#[test]
fn zstd_is_served_whole() {
    let space = TestSpace::new();
    whole(&Project::new("zstd", [Cmd::from("make -j2 zstd")]).check(&space));
}

#[test]
fn xz_with_its_configure_is_served_whole() {
    let space = TestSpace::new();
    let runs = Project::new("xz", [Cmd::from("./configure"), Cmd::from("make -j2")])
        // ld repeats the random names of gcc's temporary files.
        .varies(&["config.log"])
        .check(&space);
    whole(&runs);
}

#[test]
fn redis_is_served_whole() {
    let space = TestSpace::new();
    Project::new("redis", [Cmd::from("make -j2 MALLOC=libc")])
        // src/mkreleasehdr.sh writes the time of the build into release.h.
        .varies(&["src/release.h", "src/release.o", "src/redis-*"])
        .check(&space);
}

#[test]
fn a_cargo_project_is_served_whole() {
    let space = TestSpace::new();
    let toolchain = Path::new(env!("CARGO")).parent().unwrap();
    let path = format!("{}:/usr/bin:/bin", toolchain.display());
    let build = Cmd::from("cargo build --offline --quiet")
        .env("PATH", path)
        .env("CARGO_INCREMENTAL", "0");
    Project::new("cargo", [build])
        // Cargo writes hash maps in the order of a random seed.
        .varies(&[
            "target/.rustc_info.json",
            "target/debug/.fingerprint/*/dep-",
        ])
        .check(&space);
}

#[test]
fn a_python_byte_compile_is_served_whole() {
    let space = TestSpace::new();
    let compile = Cmd::from("python3 -m compileall -q json email");
    let project = Project {
        lay: Box::new(|space| {
            let find = "import os; print(os.path.dirname(os.__file__), end='')";
            let library = space
                .bare(Cmd::new(["python3", "-c", find]))
                .expect_code(0)
                .out();
            for package in ["json", "email"] {
                space.mkdir(package);
                copy(&Path::new(&library).join(package), &space.path(package));
                space.remove(format!("{package}/__pycache__"));
            }
        }),
        commands: vec![compile],
        varies: &[],
        lists: false,
    };
    whole(&project.check(&space));
    assert!(
        space
            .tree()
            .differing(&Tree::default())
            .iter()
            .any(|p| p.ends_with("__pycache__"))
    );
}
