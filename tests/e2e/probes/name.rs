//! Names that a step makes, moves and removes: links, directories, whole trees.

use super::tests;
use crate::probe::{AtMost, Hit, Probe, Ran};
use crate::space::TestSpace;

tests! {
    removal_fails
    output_gets_another_name hard_link_of_a_symbolic_link
    hard_link symbolic_link directory_cycle directory_made directory_renamed input_consumed
    move_of_a_tree directory_removed_if_empty rename_over_a_hard_link overwritten_through_a_link
    names_of_any_bytes
}

pub fn hard_link() -> Probe {
    Probe::script("rm -f copy\ncat in > out\nln out copy\n", |s| {
        s.write("in", "one\n");
    })
    .first(4)
    .again(AtMost(4))
    .again(Hit)
    .after(
        "both removed",
        |s| {
            s.remove("out");
            s.remove("copy");
        },
        Hit,
    )
    .with("in", "two\n", Ran(4))
    .again(AtMost(4))
    .without("copy", AtMost(4))
}

pub fn symbolic_link() -> Probe {
    Probe::script("ln -sf in link\nln -sfn dir d\ncat link > d/out\n", |s| {
        s.write("in", "one\n");
        s.mkdir("dir");
    })
    .first(4)
    .again(AtMost(4))
    .again(Hit)
    .without("link", AtMost(4))
    .after(
        "all removed",
        |s| {
            s.remove("link");
            s.remove("d");
            s.remove("dir/out");
        },
        Hit,
    )
    .with("in", "two\n", Ran(4))
}

pub fn directory_cycle() -> Probe {
    let script = "rm -rf work\nmkdir work\ncat in > work/out\ncp work/out out\nrm -r work\n";
    Probe::script(script, |s| s.write("in", "one\n"))
        .first(6)
        .again(AtMost(6))
        .again(Hit)
        .without("out", Hit)
        .after(
            "a directory in the way",
            |s| s.write("work/old/file", "x"),
            AtMost(6),
        )
        .with("in", "two\n", Ran(6))
}

pub fn directory_made() -> Probe {
    Probe::script(
        "mkdir -p a/b/c empty\ncat in > a/b/c/out\nchmod 750 a/b\n",
        |s| {
            s.write("in", "one\n");
        },
    )
    .first(4)
    .again(AtMost(4))
    .again(Hit)
    .after(
        "all removed",
        |s| {
            s.remove("a");
            s.remove("empty");
        },
        Hit,
    )
    .without("empty", AtMost(4))
    .again(AtMost(4))
    .with("in", "two\n", Ran(4))
}

/// What a call could not remove or move is no output, though it was made a moment ago.
pub fn removal_fails() -> Probe {
    let script =
        "sh -c 'echo word >> l'\nsh -c 'rmdir l || unlink d'\nsh -c 'mv d d/e; mv -T l d'\n";
    Probe::script(script, |s| s.write("d/e/file", "x"))
        .first(7)
        .again(Ran(7))
        .again(Ran(7))
        .without("l", AtMost(7))
        .again(AtMost(7))
        .again(AtMost(7))
}

/// What is one file now were two when it was recorded: writing one changes what is read of the other.
pub fn output_gets_another_name() -> Probe {
    Probe::script("cat in > x\ncat y > out\n", |s| {
        s.write("in", "one\n");
        s.write("y", "y\n");
        s.write("x", "x\n");
    })
    .first(3)
    .again(Hit)
    .after(
        "linked",
        |s| {
            s.remove("x");
            s.must("ln y x");
        },
        Ran(3),
    )
    .after(
        "apart again",
        |s| {
            s.remove("x");
            s.write("y", "y\n");
        },
        AtMost(3),
    )
}

/// A symbolic link is a file that can have two names as well.
pub fn hard_link_of_a_symbolic_link() -> Probe {
    Probe::script("rm -f l m\nln -s in l\nln -P l m\n", |s| {
        s.write("in", "one\n");
    })
    .first(4)
    .again(AtMost(4))
    .after(
        "as at first",
        |s| {
            s.remove("l");
            s.remove("m");
        },
        AtMost(4),
    )
}

pub fn directory_renamed() -> Probe {
    let script = "rm -rf out\nmkdir -p tmp/sub\ncat in > tmp/sub/file\nln -s sub/file tmp/link\nmv tmp out\n";
    Probe::script(script, |s| s.write("in", "one\n"))
        .first(6)
        .again(AtMost(6))
        .without("out", Hit)
        .with("in", "two\n", Ran(6))
        .again(AtMost(6))
}

/// A move takes the source away: the next run fails, and both say so.
pub fn input_consumed() -> Probe {
    let put = |s: &TestSpace| s.write("in", "one\n");
    Probe::script("mv in out\n", put)
        .first(2)
        .again(Ran(2))
        .after("put back", put, AtMost(2))
        .after(
            "as at first",
            move |s| {
                s.remove("out");
                put(s);
            },
            AtMost(2),
        )
}

/// A whole tree that was there before goes elsewhere.
pub fn move_of_a_tree() -> Probe {
    Probe::new(
        |s| {
            s.write("old/a/file", "one\n");
            s.write("old/b", "two\n");
            s.symlink("b", "old/link");
            s.write("move.sh", "mv old new\ncat new/a/file new/link > out\n");
            // Of the same tick as the directory's, they would look as if they had been taken from it.
            s.must("find old -exec touch -h -d @1600000000 {} +");
        },
        "sh move.sh",
    )
    .first(3)
    .after(
        "as at first",
        |s| {
            s.remove("out");
            s.rename("new", "old");
        },
        Hit,
    )
    .after(
        "as at first, with one more file",
        |s| {
            s.remove("out");
            s.rename("new", "old");
            s.write("old/a/more", "three\n");
        },
        Ran(3),
    )
    .after(
        "the target is there",
        |s| {
            s.rename("new", "old");
            s.mkdir("new");
        },
        Ran(3),
    )
    .after("moved by hand", |s| s.write("old/b", "other\n"), AtMost(3))
}

/// Whether a directory can be removed depends on what is in it. One that changed a moment ago cannot
/// be told from one that was made anew, so that the first failure may not be recorded.
pub fn directory_removed_if_empty() -> Probe {
    Probe::script("rmdir d 2> /dev/null && echo gone || echo stays\n", |s| {
        s.mkdir("d");
    })
    .first(2)
    .after("there again", |s| s.mkdir("d"), Hit)
    .with("d/file", "x", Ran(2))
    .again(AtMost(2))
    .again(Hit)
    .without("d/file", AtMost(2))
}

pub fn rename_over_a_hard_link() -> Probe {
    let script =
        "cat in > new\nmv -f new a\ncat in > n2\nln -f n2 c\nmv -f n2 c 2>/dev/null || :\n";
    Probe::script(script, |s| {
        s.write("in", "one\n");
        s.write("a", "old\n");
        s.must("ln a b");
    })
    .first(8)
    .again(AtMost(8))
    .with("in", "two\n", Ran(8))
    .again(AtMost(8))
    .with("in", "one\n", AtMost(8))
}

/// Writing through a link changes what it leads to and leaves the link alone; writing to one name
/// of a file changes all of them.
pub fn overwritten_through_a_link() -> Probe {
    let setup = |s: &TestSpace| {
        s.write("in", "one\n");
        s.write("real", "old\n");
        s.symlink("real", "link");
        s.write("x", "old\n");
        s.must("ln x y");
    };
    Probe::script("cat in > link\ncat in > x\n", setup)
        .first(3)
        .again(AtMost(3))
        .with("real", "edited\n", AtMost(3))
        .with("y", "edited\n", AtMost(3))
        .with("in", "two\n", Ran(3))
        .with("in", "one\n", AtMost(3))
}

pub fn names_of_any_bytes() -> Probe {
    let script = "set -f\nmkdir -p 'd r' \"$(printf 'n\\nl')\"\n\
                  cat in > 'd r/\u{fc}\u{4e16} \"x\" $y'\n\
                  cat in > \"$(printf 'n\\nl/\\377\\376')\"\ncat in > -- \n";
    Probe::script(script, |s| s.write("in", "one\n"))
        .first(8)
        .again(AtMost(8))
        .without("d r", AtMost(8))
        .with("in", "two\n", AtMost(8))
}
