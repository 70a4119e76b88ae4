//! The same stories as an ordinary user (in a user namespace, without passthrough), and with each
//! way of tracing.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::probe::Probe;
use crate::probes::{content, effect};
use crate::run::Cmd;
use crate::space::{Setting, TestSpace};

const NOBODY: Setting = Setting {
    nobody: true,
    tracer: None,
};
const PTRACE: Setting = Setting {
    nobody: false,
    tracer: Some("ptrace"),
};
const NOTIFY: Setting = Setting {
    nobody: false,
    tracer: Some("notify"),
};
const BOTH: Setting = Setting {
    nobody: true,
    tracer: Some("ptrace"),
};

/// Makes a test in each setting of each probe.
macro_rules! everywhere {
    ($($module:ident: $($name:ident)*;)*) => { $($(
        mod $name {
            use crate::probes::$module::$name as probe;
            #[test]
            fn nobody() {
                probe().run(super::NOBODY);
            }
            #[test]
            fn ptrace() {
                probe().run(super::PTRACE);
            }
        }
    )*)* };
}

everywhere! {
    content: dynamic_tool static_tool raw_system_calls interpreted_script file_read_by_a_thread;
    lookup: list_of_a_directory absent_then_there header_in_an_earlier_directory
        link_to_a_directory proc_self;
    output: shared_mapping temporary_directory in_place_edit time_stamp_set_on_purpose fifo_inside;
    name: hard_link directory_made move_of_a_tree;
    effect: failing_command pipeline signal_inside_the_script;
    process: parallel_children exec_chain;
    world: umask;
}

#[test]
fn configure() {
    crate::make::configure().run(NOBODY);
    crate::make::configure().run(PTRACE);
}

#[test]
fn both_at_once() {
    content::dynamic_tool().run(BOTH);
    effect::compiler_error_then_fixed().run(BOTH);
}

#[test]
fn notify_by_name() {
    content::dynamic_tool().run(NOTIFY);
    effect::pipeline().run(NOTIFY);
}

/// A record is a record, whoever traced it.
#[test]
fn tracers_share_records() {
    let s = TestSpace::new();
    s.write("in", "one\n");
    let cmd = || Cmd::sh("cat in > out; ls -d in; sh -c 'sort in > out2'");
    let _first = s.rfs_with(&["--tracer", "notify"], cmd()).expect_ran();
    let _second = s.rfs_with(&["--tracer", "ptrace"], cmd()).expect_hit();
    s.write("in", "two\n");
    let _third = s.rfs_with(&["--tracer", "ptrace"], cmd()).expect_ran();
    let _fourth = s.rfs_with(&["--tracer", "notify"], cmd()).expect_hit();
}

/// Nobody is nobody inside as well, and what is made is nobody's.
#[test]
fn identity_is_kept() {
    let s = TestSpace::with(NOBODY);
    let cmd = || Cmd::sh("id -u; id -g; id -un; touch made; stat -c '%u %g' made .");
    let bare = s.bare(cmd());
    s.remove("made");
    let wrapped = s.rfs(cmd());
    assert_eq!(bare.out(), wrapped.out(), "{wrapped:#?}");
    assert_eq!(bare.err(), wrapped.err(), "{wrapped:#?}");
}

/// A file that one may not read is an input that says so, not a reason to give up.
#[test]
fn directory_of_others_in_the_path() {
    let s = TestSpace::with(NOBODY);
    let closed = s.root().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let path = format!("{}:/root/bin:/usr/bin:/bin", closed.display());
    s.write("in", "one\n");
    let cmd = || Cmd::sh("sh -c 'sort in > out'").env("PATH", &path);
    let first = s.rfs(cmd()).expect_code(0).expect_ran();
    assert_eq!(first.summary().refused, 0, "{first:#?}");
    s.remove("out");
    let _second = s.rfs(cmd()).expect_hit();
    assert_eq!(s.read("out"), "one\n");
}

/// The cache of another user can neither be read nor written: one message, and the build goes on.
#[test]
fn cache_of_another_user() {
    let s = TestSpace::with(NOBODY);
    fs::create_dir(s.cache()).unwrap();
    fs::set_permissions(s.cache(), fs::Permissions::from_mode(0o700)).unwrap();
    s.write("in", "one\n");
    let run = s.rfs(Cmd::sh("cat in > out")).expect_code(0);
    assert_eq!(s.read("out"), "one\n");
    let told: Vec<_> = run.err().lines().map(str::to_owned).collect();
    let about = s.cache().display().to_string();
    assert!(
        told.iter().filter(|l| l.contains(&about)).count() == 1,
        "{run:#?}"
    );
}

/// Who may not write to the workspace may still run there what only reads.
#[test]
fn workspace_of_another_user() {
    let s = TestSpace::with(NOBODY);
    s.write("in", "one\n");
    std::os::unix::fs::chown(s.ws(), Some(0), Some(0)).unwrap();
    let cmd = || Cmd::sh("cat in; echo no > out; echo $?");
    let bare = s.bare(cmd());
    let wrapped = s.rfs(cmd());
    assert_eq!(
        (bare.status, bare.out()),
        (wrapped.status, wrapped.out()),
        "{wrapped:#?}"
    );
    assert!(
        wrapped.err().contains(bare.err().trim_end()),
        "{wrapped:#?}"
    );
}

/// A mode that shuts its own user out does so inside as well.
#[test]
fn modes_bind_an_ordinary_user() {
    let probe = Probe::script(
        "cat shut || echo \"no: $?\"\n: > made\nchmod 0 made\n(echo x > made) || echo no\nls dir || :\n",
        |s| {
            s.write("shut", "secret\n");
            s.chmod("shut", 0o000);
            s.mkdir("dir");
            s.chmod("dir", 0o300);
        },
    );
    probe
        .first(4)
        .again(crate::probe::AtMost(4))
        .after(
            "opened",
            |s| s.chmod("shut", 0o644),
            crate::probe::AtMost(4),
        )
        .run(NOBODY);
}
