//! One fault after the other in a build by rules. It may fail, and then says why; what somebody wrote is there
//! afterwards, no file is half made, and the next build makes what is to be made.

use crate::project::{Project, Tree, differences};
use crate::rules::{MINE, RFSFILE};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Which build fails how.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Whose disk fails: the `command`'s or its `spawner`'s.
    place: &'static str,
    /// What all jobs do was recorded before, in another workspace so to say.
    served: bool,
    /// The targets are there, of another source.
    again: bool,
    temper: &'static str,
    /// At least so many operations are reached.
    least: usize,
}

pub fn all() -> Vec<(String, Case)> {
    let cases = [
        ("command", "recorded", "full", 100),
        ("command", "recorded", "torn", 50),
        ("command", "recorded", "dead", 100),
        ("command", "served", "full", 90),
        ("command", "served", "torn", 25),
        ("command", "served", "dead", 90),
        ("spawner", "again", "full", 5),
        ("spawner", "again", "dead", 5),
    ];
    let named = cases.map(|(place, what, temper, least)| {
        let case = Case {
            place,
            served: what == "served",
            again: what == "again",
            temper,
            least,
        };
        (format!("rules::{place}::{what}::{temper}"), case)
    });
    named.into()
}

/// The state before a build.
fn reset(project: &Project) {
    let ws = project.ws();
    fs::remove_dir_all(&ws).unwrap();
    fs::create_dir_all(ws.join(".rfs")).unwrap();
    fs::write(ws.join("Rfsfile"), RFSFILE).unwrap();
    fs::write(ws.join("in"), "input\n").unwrap();
    fs::write(ws.join("mine"), MINE).unwrap();
    fs::write(ws.join(".rfs/marks"), "forgotten out/copy\n").unwrap();
}

/// The state before the build that fails: for one that makes what is there anew, a build of it.
fn prepare(project: &Project, case: &Case) {
    reset(project);
    if case.again {
        let first = host(project, case, usize::MAX);
        assert_eq!(first.0, Some(0), "{}", first.1);
        fs::write(project.ws().join("in"), "edited\n").unwrap();
    }
}

/// What a build ended with, and what it said.
type Found = (Option<i32>, String);

fn host(project: &Project, case: &Case, at: usize) -> Found {
    let note = project.ws().with_file_name("note");
    let _none = fs::remove_file(&note);
    let mut command = project.command(std::env::current_exe().unwrap());
    command.args(["host-rules", case.place, case.temper, &at.to_string()]);
    let output = command.arg(project.cache()).arg(&note).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

/// The files below a directory, which need not be there.
fn files(dir: PathBuf) -> Vec<PathBuf> {
    let (mut files, mut dirs) = (Vec::new(), vec![dir]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files
}

/// What somebody wrote lies in its place or was set aside.
fn is_kept(ws: &Path) -> bool {
    let mut places = files(ws.join(".rfs/quarantine"));
    places.push(ws.join("mine"));
    places
        .iter()
        .any(|path| fs::read_to_string(path).is_ok_and(|text| text == MINE))
}

pub fn run(case: &Case) {
    let project = Project::new();
    let known = project.ws().with_file_name("known");
    prepare(&project, case);
    let before = project.tree();
    let whole = host(&project, case, usize::MAX);
    assert_eq!(whole.0, Some(0), "{}", whole.1);
    let tree = project.tree();
    let names = [
        "out/a",
        "out/b",
        "parts/x.p",
        "parts/y.p",
        "link",
        "d/e/1.f",
        "sum",
    ];
    for name in names.map(PathBuf::from) {
        assert!(tree.contains_key(&name), "{name:?} of {tree:?}");
    }
    assert!(is_kept(&project.ws()), "{}", whole.1);
    fs::rename(project.cache(), &known).unwrap();
    let verify = |when: &str, said: &str| {
        let mut verify = project.command(env!("CARGO_BIN_EXE_rfs"));
        let verified = verify.args(["cache", "verify"]).output().unwrap();
        assert!(verified.status.success(), "{when}: {verified:?}\n{said}");
    };
    // The short form takes one of so many.
    let stride = match (case.temper, case.served) {
        _ if case.place == "spawner" || std::env::var_os("RFS_LONG").is_some() => 1,
        ("dead", false) => 17,
        ("dead", true) => 25,
        (_, false) => 5,
        (_, true) => 9,
    };
    let mut sites: BTreeMap<String, usize> = BTreeMap::new();
    let mut reached = 0;
    for at in (0..).step_by(stride) {
        fs::remove_dir_all(project.cache()).unwrap_or_default();
        if case.served {
            let copied = project
                .command("cp")
                .arg("-a")
                .arg(&known)
                .arg(project.cache())
                .status();
            assert!(copied.unwrap().success());
        }
        prepare(&project, case);
        let found = host(&project, case, at);
        let when = format!("{case:?}, operation {at}");
        let failed = found
            .1
            .lines()
            .find_map(|line| line.strip_prefix("failed "));
        assert!(!found.1.contains("panicked"), "{when}:\n{}", found.1);
        assert!(
            is_kept(&project.ws()),
            "{when}: lost what was there:\n{}",
            found.1
        );
        right_or_told(&found, (&before, &tree), &project.tree(), &when);
        // Whose names were for the moment of writing.
        let mut left = files(project.ws().join(".rfs"));
        left.retain(|path| path.to_string_lossy().contains(".rfs-"));
        assert!(
            case.temper == "dead" || left.is_empty(),
            "{when}: left {left:?}"
        );
        // On the state that it left.
        let next = host(&project, case, usize::MAX);
        let after = format!("after {when}, which said\n{}\n", found.1);
        assert_eq!(next.0, Some(0), "{after}:\n{}", next.1);
        let differing = differences(&tree, &project.tree());
        assert!(differing.is_empty(), "{after}: {differing:#?}\n{}", next.1);
        assert!(
            is_kept(&project.ws()),
            "{after}: lost what was there:\n{}",
            next.1
        );
        if at % 4 == 0 || failed.is_none() {
            verify(&after, &next.1);
            let third = host(&project, case, usize::MAX);
            let idle =
                third.0 == Some(0) && !third.1.contains("run ") && !third.1.contains("serve ");
            assert!(idle, "{after} and\n{}\nthe third said\n{}", next.1, third.1);
        }
        match failed {
            Some(op) => *sites.entry(op.to_owned()).or_default() += 1,
            None => break,
        }
        reached = at;
    }
    let total: usize = sites.values().sum();
    println!("{case:?}: {total} faults at {reached} operations: {sites:?}");
    assert!(
        reached >= case.least,
        "only {reached} operations: {sites:?}"
    );
}

/// The build went as it should, or it failed, said that the disk did, and left nothing half made.
fn right_or_told(found: &Found, (before, whole): (&Tree, &Tree), tree: &Tree, when: &str) {
    if found.0 == Some(0) {
        let differing = differences(whole, tree);
        assert!(differing.is_empty(), "{when}: {differing:#?}\n{}", found.1);
        return;
    }
    let why = ["No space left on device", "Input/output error"];
    let told = found.1.lines().any(|line| {
        let of_us = line.starts_with("failure ") || line.starts_with("error ");
        of_us && why.iter().any(|why| line.contains(why))
    });
    assert!(told, "{when}: {:?} does not say why:\n{}", found.0, found.1);
    for (name, entry) in tree {
        let content = |of: &Tree| {
            of.get(name)
                .map(|(mode, _, _, content)| (*mode, content.clone()))
        };
        let now = Some((entry.0, entry.3.clone()));
        let is_dir = entry.0 & libc::S_IFMT == libc::S_IFDIR;
        assert!(
            is_dir || now == content(before) || now == content(whole),
            "{when}: {} is half made: {now:?}\n{}",
            name.display(),
            found.1
        );
    }
}
