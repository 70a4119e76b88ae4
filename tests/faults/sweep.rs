//! One fault after the other.

use crate::project::{Project, differences, script};
use std::collections::BTreeMap;
use std::process::Output;

/// Which build fails how.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Everything was recorded before.
    served: bool,
    /// All steps but the command itself are to be served.
    by_steps: bool,
    temper: &'static str,
    /// At least so many operations fail.
    least: usize,
}

pub fn all() -> Vec<(String, Case)> {
    let mut all = Vec::new();
    for (what, served, by_steps, least) in [
        ("recorded", false, false, [110, 50, 38]),
        ("served_as_a_whole", true, false, [135, 20, 45]),
        ("served_by_steps", true, true, [165, 28, 54]),
    ] {
        // A full disk, a bad one, and one that fails from then on.
        for (temper, least) in ["full", "torn", "dead"].into_iter().zip(least) {
            let case = Case {
                served,
                by_steps,
                temper,
                least,
            };
            all.push((format!("{what}::{temper}"), case));
        }
    }
    all
}

/// Output, errors, status.
type Seen = (String, Vec<String>, Option<i32>);

/// What a bare command can be told from another by: output and errors but for the words of ours, status.
fn seen(output: &Output) -> Seen {
    let ours = ["failed ", "hit ", "ran ", "refused ", "warning ", "rfs: "];
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let theirs = errors
        .lines()
        .filter(|line| !ours.iter().any(|word| line.starts_with(word)));
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        theirs.map(str::to_owned).collect(),
        output.status.code(),
    )
}

pub fn run(case: &Case) {
    let project = Project::new();
    project.reset();
    let bare = project
        .command("sh")
        .args(["build.sh", "0"])
        .output()
        .unwrap();
    let (bare, tree) = (seen(&bare), project.tree());
    for step in [
        "copy", "append", "move", "place", "links", "remove", "modes", "turn",
    ] {
        assert!(
            bare.0.contains(&format!("{step} 0\n")),
            "{bare:?}\n{}",
            script()
        );
    }
    let host = |at: usize, nonce: usize| {
        let at = at.to_string();
        let mut command = project.command(std::env::current_exe().unwrap());
        command
            .args(["host", case.temper, &at])
            .arg(project.cache());
        let output = command
            .args(["sh", "build.sh", &nonce.to_string()])
            .output()
            .unwrap();
        (
            seen(&output),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let right = |found: &(Seen, String), when: &str| {
        assert_eq!(found.0, bare, "{when}:\n{}", found.1);
        let differing = differences(&tree, &project.tree());
        assert!(
            differing.is_empty(),
            "{when}: bare and wrapped differ: {differing:#?}\n{}",
            found.1
        );
        assert!(!found.1.contains("panicked"), "{when}:\n{}", found.1);
    };
    for what in ["refused", "hit sh build.sh"]
        .iter()
        .filter(|_| case.served)
    {
        project.reset();
        let found = host(usize::MAX, 0);
        right(&found, "recorded");
        let expected = found.1.lines().any(|line| line.starts_with(what));
        assert_eq!(expected, what.starts_with("hit"), "{}", found.1);
    }
    let verify = |when: &str, said: &str| {
        let mut verify = project.command(env!("CARGO_BIN_EXE_rfs"));
        let verified = verify.args(["cache", "verify"]).output().unwrap();
        assert!(verified.status.success(), "{when}: {verified:?}\n{said}");
    };
    // What fails from then on fails in few different ways.
    let stride = match case.temper {
        "dead" if std::env::var_os("RFS_LONG").is_none() => 3,
        _ => 1,
    };
    let mut sites: BTreeMap<String, usize> = BTreeMap::new();
    for at in (0..).step_by(stride) {
        if !case.served {
            std::fs::remove_dir_all(project.cache()).unwrap_or_default();
        }
        let nonce = if case.by_steps { at + 1 } else { 0 };
        project.reset();
        let found = host(at, nonce);
        let when = format!("{case:?}, operation {at}");
        let failed = found
            .1
            .lines()
            .find_map(|line| line.strip_prefix("failed "));
        // Where nothing can be taken back a step fails, and says why.
        if !found.1.contains("could not be taken back") {
            right(&found, &when);
        } else {
            assert_eq!(case.temper, "dead", "{when}:\n{}", found.1);
            assert!(
                found.0.0.contains(" 125\n") || found.0.2 == Some(125),
                "{when}:\n{}",
                found.1
            );
        }
        let warnings = found
            .1
            .lines()
            .filter(|line| line.starts_with("warning "))
            .count();
        assert!(warnings <= 3, "{when}:\n{}", found.1);

        if !case.served || at % 4 == 0 || failed.is_none() {
            // Before the next build, which would drop a torn blob by itself.
            verify(&when, &found.1);
            project.reset();
            let next = host(usize::MAX, nonce);
            right(&next, &format!("after {when}, which said\n{}\n", found.1));
            verify(&when, &next.1);
        }
        match failed {
            Some(op) => *sites.entry(op.to_owned()).or_default() += 1,
            None => break,
        }
    }
    let total: usize = sites.values().sum();
    println!("{case:?}: {total} faults: {sites:?}");
    assert!(total >= case.least, "{sites:?}");
}
