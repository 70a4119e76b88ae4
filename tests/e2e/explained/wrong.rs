//! Wrong uses: each says what is wrong and what can be done about it, and ends with 125.

use super::{ask, build, space};
use crate::run::Cmd;

/// Arguments, and what the message and the hint say.
type Wrong<'a> = (&'a [&'a str], &'a str, &'a str);

#[test]
fn what_is_asked_in_vain_is_told_with_what_can_be_done() {
    let s = space();
    let before: [Wrong<'_>; 6] = [
        (&["log"], "no build is known here", "`rfs build -- COMMAND`"),
        (
            &["why", "a.o"],
            "no build is known here",
            "`rfs build -- COMMAND`",
        ),
        (
            &["report", "--html", "x"],
            "no build is known here",
            "`rfs build -- COMMAND`",
        ),
        (&["restore", "1"], "no snapshot 1", "`rfs snapshots`"),
        (
            &["umount", "nowhere"],
            "nowhere: No such file",
            "`rfs status`",
        ),
        (
            &["freeze", "nowhere"],
            "nowhere is not there",
            "build it first",
        ),
    ];
    for wrong in before {
        check(&s, wrong);
    }
    build(&s);
    let passwd = ("/etc/passwd", "what `rfs store export` wrote");
    let after: [Wrong<'_>; 22] = [
        (
            &["why", "nowhere"],
            "looked at or written nowhere",
            "`rfs log`",
        ),
        (
            &["why", "999"],
            "run 1 has no step 999",
            "`rfs log what-ran`",
        ),
        (&["why", "9:1"], "run 9 is not known", "`rfs log`"),
        (&["why", ""], "a value is required", "--help"),
        (
            &["why", "--configure", "NOWHERE"],
            "asked for NOWHERE",
            "a define of config.h",
        ),
        (
            &["why-miss", "a.o"],
            "no run before run 1",
            "build once more",
        ),
        (
            &["why-miss", "a.o", "--against", "9"],
            "run 9 is not known",
            "`rfs log`",
        ),
        (
            &["why-miss", "a.o", "--against", "/nowhere"],
            "known in /nowhere",
            passwd.1,
        ),
        (
            &["why-miss", "a.o", "--against", passwd.0],
            "known in /etc/passwd",
            passwd.1,
        ),
        (
            &["graph", "--from", "nowhere"],
            "looked at or written nowhere",
            "`rfs log`",
        ),
        (&["graph", "--to", "1"], "a file is wanted", "`./12`"),
        (
            &["graph", "--folded", "--all"],
            "cannot be used with",
            "--help",
        ),
        (&["diff"], "no run before run 1", "build once more"),
        (&["diff", "1", "9"], "run 9 is not known", "`rfs log`"),
        (
            &["diff", "nowhere"],
            "no snapshot nowhere",
            "`rfs log` lists builds",
        ),
        (&["log", "--run", "9"], "run 9 is not known", "`rfs log`"),
        (&["log", "whatran"], "invalid value 'whatran'", "what-ran"),
        (
            &["lint", "--make", "nowhere"],
            "nowhere: No such file",
            "`make -pn >FILE`",
        ),
        (
            &["lint", "--ninja", passwd.0],
            "neither a statement",
            "build.ninja",
        ),
        (
            &["rules", "import", "--make", "nowhere"],
            "nowhere: No such",
            "`make -nB --trace",
        ),
        (
            &["reproduce", "999"],
            "run 1 has no step 999",
            "`rfs log what-ran`",
        ),
        (
            &["mount", "nowhere"],
            "nowhere: No such file",
            "name a directory",
        ),
    ];
    for wrong in after {
        check(&s, wrong);
    }
    assert_eq!(ask(&s, &["log", "--run", "1"]).lines().count(), 2);
    let forgotten = s.tool(&["forget", "nowhere"]).expect_code(0).err();
    assert!(
        forgotten.contains("no job is known to have made nowhere") && forgotten.contains("hint"),
        "{forgotten}"
    );
    s.write("rfs.toml", "[[\n");
    let build = s.rfs(Cmd::new(["true"])).expect_code(125).err();
    assert!(
        build.contains("rfs.toml:1:") && build.contains("hint: it is TOML"),
        "{build}"
    );
    s.remove("rfs.toml");
    // Nobody is told to run what does not help.
    s.write(".rfs/state", "no state of any kind\n");
    check(
        &s,
        (
            &["log"],
            "is damaged at byte 0",
            "`rfs store repair --workspace`",
        ),
    );
    let mended = s.tool(&["store", "repair", "--workspace"]);
    let told = mended.expect_code(1).err();
    assert!(
        told.contains("nothing can be read of") && told.contains("hint: remove it"),
        "{told}"
    );
    check(
        &s,
        (&["log"], "no build is known here", "`rfs build -- COMMAND`"),
    );
}

fn check(s: &crate::space::TestSpace, (args, message, hint): Wrong<'_>) {
    let told = s.tool(args).expect_code(125);
    let (out, err) = (told.out(), told.err());
    assert_eq!(out, "", "{args:?}");
    let (first, rest) = err.split_once('\n').unwrap_or((&err, ""));
    assert!(first.contains(message), "{args:?}: {err}");
    assert!(rest.contains(hint), "{args:?}: {err}");
}
