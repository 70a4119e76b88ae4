//! A restore in a mount goes on by and by: what nobody looks at is not touched.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Mounted, has_ended, wait_until};
use crate::run::{Cmd, Run};
use crate::space::{Setting, TestSpace};

/// Three directories of which two change.
fn fill(s: &TestSpace) {
    for dir in ["one", "two", "two/deep", "gone"] {
        s.mkdir(dir);
        s.write(format!("{dir}/file"), format!("{dir}\n"));
    }
    s.write("top", "top\n");
    s.write("Makefile", "out: one/file top\n\tcat one/file top > out\n");
}

fn edit(m: &Mounted) {
    let _edited = m.sh(
        "echo edited > one/file; echo edited > two/deep/file; rm -r gone; echo new > two/new; mkdir more; echo more > more/file",
    );
}

fn ok(m: &Mounted, args: &[&str]) -> Run {
    m.space.tool(args).expect_code(0)
}

/// Directories that were put right, and those that are known to wait.
fn progress(m: &Mounted) -> Option<(u64, u64)> {
    let restore = &m.status()["restore"];
    let number = |key: &str| restore[key].as_u64();
    Some((number("settled")?, number("waiting")?))
}

fn restored() -> Mounted {
    let m = Mounted::new(fill);
    let _one = ok(&m, &["snapshot", "one"]);
    edit(&m);
    let said = ok(&m, &["restore", "one"]);
    assert_eq!(said.out(), "rfs: restored one\n", "{said:#?}");
    m
}

/// What is there behind the mount.
fn behind(m: &Mounted, name: &str) -> Option<String> {
    let script = format!("umount --lazy . && cat {}/{name}", m.at.display());
    let run = m.space.bare(super::in_own_namespace(&script));
    (run.code() == 0).then(|| run.out())
}

#[test]
fn what_is_looked_at_is_put_right() {
    let m = restored();
    assert_eq!(progress(&m), Some((0, 1)), "nothing was touched");
    assert_eq!(behind(&m, "one/file").as_deref(), Some("edited\n"));
    assert_eq!(m.sh("cat top"), "top\n");
    assert_eq!(
        progress(&m),
        Some((1, 3)),
        "the root alone, and what is in it waits"
    );
    assert_eq!(m.sh("cat one/file"), "one\n");
    assert_eq!(progress(&m), Some((2, 2)));
    assert_eq!(behind(&m, "one/file").as_deref(), Some("one\n"));
    assert_eq!(behind(&m, "two/deep/file").as_deref(), Some("edited\n"));
    assert_eq!(
        m.sh("test ! -e more; ls two; cat gone/file"),
        "deep\nfile\ngone\n"
    );
    assert_eq!(progress(&m), Some((4, 1)));
    let _rest = ok(&m, &["materialize", "two/deep"]);
    assert_eq!(behind(&m, "two/deep/file").as_deref(), Some("two/deep\n"));
    // It ends by itself where nothing waits.
    wait_until(|| progress(&m).is_none());
    assert_eq!(ok(&m, &["diff", "one"]).out(), "");
    let _back = ok(&m, &["restore", "before-one"]);
    assert_eq!(
        m.sh("cat one/file two/deep/file two/new more/file; test ! -e gone"),
        "edited\nedited\nnew\nmore\n"
    );
}

/// Each of these looks first, and is not undone by what comes later.
#[test]
fn what_is_done_after_a_restore_stays() {
    let m = restored();
    let done = m.sh(
        "echo mine > one/mine; rm two/file; mv two moved; chmod 600 top; ln -s x link; mkdir -p gone/sub; \
         mv gone/file gone/sub; rmdir one 2>/dev/null || echo full; cat moved/deep/file gone/sub/file",
    );
    assert_eq!(done, "full\ntwo/deep\ngone\n");
    let _all = ok(&m, &["materialize"]);
    assert_eq!(progress(&m), None);
    let told = ok(&m, &["diff", "one"]).out();
    let mut lines: Vec<_> = told
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    lines.sort();
    let expected = [
        "added gone/sub/",
        "added gone/sub/file",
        "added link",
        "added moved/",
        "added moved/deep/",
        "added moved/deep/file",
        "added one/mine",
        "mode top",
        "removed gone/file",
        "removed two/",
        "removed two/deep/",
        "removed two/deep/file",
        "removed two/file",
    ];
    assert_eq!(lines, expected);
}

/// A file that was open is the one that is there, if the restore does not replace it.
#[test]
fn who_has_a_file_open_writes_to_it() {
    let m = Mounted::new(fill);
    let _one = ok(&m, &["snapshot", "one"]);
    edit(&m);
    let script = format!(
        "exec 5>>two/file 6>>one/file; {} restore one; echo open >&5; echo lost >&6; cat two/file one/file",
        m.space.program().display()
    );
    let said = m.sh(&script);
    assert_eq!(said, "rfs: restored one\ntwo\nopen\none\n");
    // What was written to the other one is in the tree before.
    let _back = ok(&m, &["restore", "before-one"]);
    assert_eq!(m.sh("cat one/file"), "edited\nlost\n");
}

#[test]
fn a_daemon_that_is_killed_goes_on_where_it_was() {
    let m = restored();
    assert_eq!(m.sh("cat one/file; echo mine > one/mine"), "one\n");
    let pid = m.pid();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    wait_until(|| has_ended(pid) && !m.is_mounted());
    assert_eq!(m.space.read("two/deep/file"), "edited\n");
    let _again = m.mount(&[]).expect_code(0);
    assert_eq!(progress(&m), Some((2, 2)));
    assert_eq!(m.sh("cat one/mine two/deep/file"), "mine\ntwo/deep\n");
}

#[test]
fn an_unmounted_workspace_is_finished_by_who_works_in_it() {
    let m = restored();
    assert_eq!(m.sh("cat one/file"), "one\n");
    let said = m.umount(&[]).expect_code(0);
    assert!(said.err().contains("a restore waits"), "{said:#?}");
    assert_eq!(m.space.read("two/deep/file"), "edited\n");
    let built = m.space.rfs("make -s").expect_code(0);
    assert!(
        built.err().contains("finishing the restore of one"),
        "{built:#?}"
    );
    assert!(built.err().contains("is snapshot before-one"), "{built:#?}");
    assert_eq!(m.space.read("two/deep/file"), "two/deep\n");
    assert_eq!(m.space.read("out"), "one\ntop\n");
    let built = m.space.rfs("make -s").expect_code(0);
    assert!(!built.err().contains("finishing"), "{built:#?}");
}

#[test]
fn an_unmount_can_materialize() {
    let m = restored();
    let _gone = m.umount(&["--materialize"]).expect_code(0);
    assert_eq!(m.space.read("two/deep/file"), "two/deep\n");
    assert!(!fs::exists(m.space.path("more")).unwrap());
}

/// A build in the mount works on the real files: they are put right before.
#[test]
fn a_build_sees_the_tree_as_it_is_to_be() {
    let m = restored();
    let _built = m.space.rfs("make -s").expect_code(0);
    assert_eq!(progress(&m), None);
    assert_eq!(m.sh("cat out two/deep/file"), "one\ntop\ntwo/deep\n");
}

/// One restore after the other, and one that cannot go on.
#[test]
fn a_restore_after_a_restore() {
    let m = restored();
    let _mine = m.sh("echo mine > one/mine");
    let digest = {
        let listed = ok(&m, &["snapshots", "--json"]).out();
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        {
            let all = listed["snapshots"].as_array().unwrap();
            let one = all.iter().find(|it| it["name"] == "one").unwrap();
            one["digest"].as_str().unwrap().to_owned()
        }
    };
    // By its digest, which is the same for the same tree.
    let _again = ok(&m, &["restore", &digest]);
    assert_eq!(m.sh("ls one; cat two/deep/file"), "file\ntwo/deep\n");
    let _all = ok(&m, &["materialize"]);
    let _edited = m.sh("rm two/deep/file");
    m.space.must(Cmd::sh(
        "find .rfs/snapshots/blobs -type f -exec sh -c 'rm $0; echo x > $0' {} \\;",
    ));
    let _begun = ok(&m, &["restore", "one"]);
    assert_eq!(
        m.sh("cat two/deep/file 2>&1 || echo no"),
        "cat: two/deep/file: Input/output error\nno\n"
    );
    let refused = m.space.tool(&["diff", "one"]);
    assert_eq!(refused.code(), 125, "{refused:#?}");
    assert!(refused.err().contains("gives up"), "{refused:#?}");
    let _new = m.space.tool(&["restore", "--force", "before-one"]);
}

/// By an ordinary user, in a directory that he may not write to.
#[test]
fn an_ordinary_user_restores() {
    let nobody = Setting {
        nobody: true,
        tracer: None,
    };
    let m = Mounted::with(nobody, &[], |s| {
        s.must(Cmd::sh("mkdir sub; echo data > sub/data; chmod 555 sub"));
    });
    let _one = ok(&m, &["snapshot", "one"]);
    let _edited =
        m.sh("chmod 755 sub; rm sub/data; echo new > sub/new; chmod 555 sub; mkdir -m 555 closed");
    let _begun = ok(&m, &["restore", "one"]);
    assert_eq!(progress(&m), Some((0, 1)));
    assert_eq!(m.sh("cat sub/*; stat -c %a sub; ls"), "data\n555\nsub\n");
    wait_until(|| progress(&m).is_none());
    let _back = ok(&m, &["restore", "before-one"]);
    assert_eq!(m.sh("cat sub/*; stat -c %a sub closed"), "new\n555\n555\n");
}
