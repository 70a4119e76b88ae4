//! The oracle: a story of edits and commands, told once bare and once under rfs at the same path.

use crate::run::{Cmd, Run};
use crate::space::{Setting, TestSpace};
use crate::tree::{Tree, assert_same};

/// What a wrapped run may do. Everything that can be seen of it is compared whatever this is.
#[derive(Clone, Copy, Debug)]
pub enum Expect {
    /// The whole command is served.
    Hit,
    /// The command runs, and at most so many steps with it.
    Ran(u64),
    /// The command is served, or at most so many steps run.
    AtMost(u64),
    /// The command runs because it may not be cached.
    Refused,
}

pub use Expect::{AtMost, Hit, Ran, Refused};

type Edit = Box<dyn Fn(&TestSpace)>;

struct Chapter {
    name: String,
    edit: Edit,
    cmd: Cmd,
    expect: Expect,
}

/// A story. The edits are done twice, so they must be repeatable.
pub struct Probe {
    setup: Edit,
    cmd: Cmd,
    chapters: Vec<Chapter>,
}

impl Probe {
    /// A workspace and the command that is run in each chapter, unless the chapter says otherwise.
    pub fn new(setup: impl Fn(&TestSpace) + 'static, cmd: impl Into<Cmd>) -> Self {
        Self {
            setup: Box::new(setup),
            cmd: cmd.into(),
            chapters: Vec::new(),
        }
    }

    /// The workspace has a script `build.sh`, which is the command.
    pub fn script(text: &'static str, setup: impl Fn(&TestSpace) + 'static) -> Self {
        let whole = move |s: &TestSpace| {
            s.write("build.sh", text);
            setup(s);
        };
        Self::new(whole, "sh build.sh")
    }

    /// The first run, in which at most `n` steps run.
    pub fn first(self, n: u64) -> Self {
        self.after("first", |_| {}, Ran(n))
    }

    /// Nothing is changed.
    pub fn again(self, expect: Expect) -> Self {
        self.after("again", |_| {}, expect)
    }

    /// The path is removed.
    pub fn without(self, path: &'static str, expect: Expect) -> Self {
        self.after(&format!("{path} removed"), move |s| s.remove(path), expect)
    }

    /// The file gets this content.
    pub fn with(self, path: &'static str, content: &'static str, expect: Expect) -> Self {
        let name = format!("{path} is {content:?}");
        self.after(&name, move |s| s.write(path, content), expect)
    }

    /// An edit, then the command.
    pub fn after(self, name: &str, edit: impl Fn(&TestSpace) + 'static, expect: Expect) -> Self {
        let cmd = self.cmd.clone();
        self.command(name, edit, cmd, expect)
    }

    /// An edit, then another command.
    pub fn command(
        mut self,
        name: &str,
        edit: impl Fn(&TestSpace) + 'static,
        cmd: impl Into<Cmd>,
        expect: Expect,
    ) -> Self {
        let n = self.chapters.len() + 1;
        self.chapters.push(Chapter {
            name: format!("{n}. {name}"),
            edit: Box::new(edit),
            cmd: cmd.into(),
            expect,
        });
        self
    }

    /// Tells the story and compares.
    pub fn run(&self, setting: Setting) {
        self.run_in(&TestSpace::with(setting));
    }

    pub fn run_in(&self, space: &TestSpace) {
        (self.setup)(space);
        let bare: Vec<(Run, Tree)> = self
            .chapters
            .iter()
            .map(|chapter| {
                (chapter.edit)(space);
                (space.bare(chapter.cmd.clone()), space.tree())
            })
            .collect();
        space.wipe();
        (self.setup)(space);
        for (chapter, (bare, tree)) in self.chapters.iter().zip(&bare) {
            (chapter.edit)(space);
            let wrapped = space.rfs(chapter.cmd.clone());
            assert_same_run(bare, &wrapped, &chapter.name);
            assert_same(
                tree,
                &space.tree(),
                &format!("{} {wrapped:#?}", chapter.name),
            );
            assert_expected(chapter.expect, &wrapped, &chapter.name);
        }
    }
}

/// Fails unless both runs look the same to their user.
pub fn assert_same_run(bare: &Run, wrapped: &Run, when: &str) {
    let seen = |run: &Run| (run.status, run.out(), run.err());
    assert_eq!(
        seen(bare),
        seen(wrapped),
        "{when}: left bare, right {wrapped:#?}"
    );
    assert_eq!(
        bare.stdout, wrapped.stdout,
        "{when}: standard output, byte by byte"
    );
    assert_eq!(
        bare.stderr, wrapped.stderr,
        "{when}: standard error, byte by byte"
    );
}

fn assert_expected(expect: Expect, run: &Run, when: &str) {
    let summary = run.summary();
    let n_ran = summary.ran + summary.refused;
    let right = match expect {
        Hit => summary.whole_hit && n_ran == 0 && summary.steps == 1,
        Ran(n) => !summary.whole_hit && (1..=n).contains(&n_ran),
        AtMost(n) => n_ran <= n && summary.whole_hit == (n_ran == 0),
        Refused => !summary.whole_hit && summary.refused > 0,
    };
    assert!(right, "{when}: {expect:?} was expected of {run:#?}");
}
