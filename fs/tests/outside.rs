//! Changes behind the kernel's back, and what observers are told of those in front.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test of plain file operations"
)]

mod view;

use rfs_fs::Config;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use view::{Host, modes, sh, with_host};

fn prepare(config: &mut Config) {
    fs::create_dir_all(config.root.join("d/e")).unwrap();
    fs::write(config.root.join("d/f"), "old").unwrap();
    fs::write(config.root.join("d/e/g"), "old").unwrap();
}

/// Changes the backing tree and tells the kernel.
fn edit(host: &Host<'_>, command: &str, paths: &[&str]) {
    host.talk.hear();
    sh(&format!("cd {}; {command}", host.root.display()));
    for path in paths {
        host.mounted.invalidate(&host.root.join(path));
    }
    host.talk.say();
}

#[test]
fn what_is_invalidated_is_seen() {
    for mode in modes() {
        with_host(
            mode,
            prepare,
            |host| {
                edit(host, "printf longer > d/f", &["d/f"]);
                edit(host, "printf replaced > x; mv x d/f", &["d/f"]);
                edit(host, "echo born > d/new", &["d/new"]);
                edit(host, "rm d/new", &["d/new"]);
                edit(host, "mv d/e d/h", &["d/e", "d/h"]);
                edit(host, "rm -r d", &["d"]);
            },
            |inside| {
                let wait = || {
                    inside.talk.say();
                    inside.talk.hear();
                };
                assert_eq!(fs::read("d/f").unwrap(), b"old");
                let open = File::open("d/f").unwrap();
                wait();
                assert_eq!(fs::metadata("d/f").unwrap().len(), 6);
                assert_eq!(fs::read("d/f").unwrap(), b"longer");
                wait();
                assert_eq!(fs::read("d/f").unwrap(), b"replaced");
                let mut three = [0; 6];
                open.read_exact_at(&mut three, 0).unwrap();
                assert_eq!(&three, b"longer");
                assert!(!fs::exists("d/new").unwrap());
                assert_eq!(sh("ls d"), "e\nf");
                wait();
                assert_eq!(sh("cat d/new; ls d"), "born\ne\nf\nnew");
                wait();
                assert!(!fs::exists("d/new").unwrap());
                assert_eq!(sh("cat d/e/g; ls d"), "olde\nf");
                wait();
                assert_eq!(sh("ls d; cat d/h/g; test ! -e d/e"), "f\nh\nold");
                wait();
                assert_eq!(sh("ls; test ! -e d/f"), "");
                sh("mkdir d; touch d/f");
            },
        );
    }
}

#[test]
fn an_edited_directory_stays_the_working_directory() {
    for mode in modes() {
        with_host(
            mode,
            prepare,
            |host| {
                edit(
                    host,
                    "touch d/e/n; touch -d @1 d/e",
                    &["d/e/n", "d/e", "d", ""],
                );
            },
            |inside| {
                std::env::set_current_dir("d/e").unwrap();
                assert_eq!(sh("ls"), "g");
                inside.talk.say();
                inside.talk.hear();
                assert_eq!(std::env::current_dir().unwrap(), inside.root.join("d/e"));
                assert_eq!(sh("ls; stat -c %Y ."), "g\nn\n1");
            },
        );
    }
}

#[test]
fn what_was_replaced_without_notice_is_found_when_used() {
    for mode in modes() {
        with_host(
            mode,
            prepare,
            |host| {
                edit(host, "echo replaced > x; mv x d/f", &[]);
                edit(host, "mv d z; mkdir d; echo other > d/f", &[]);
                edit(host, "rm d/f", &[]);
            },
            |inside| {
                let wait = || {
                    inside.talk.say();
                    inside.talk.hear();
                };
                fs::metadata("d/f").unwrap();
                wait();
                assert_eq!(fs::read_to_string("d/f").unwrap(), "replaced\n");
                wait();
                // The kernel believes the old directory to be there, until somebody tells it; then so do we.
                assert_eq!(fs::read_to_string("d/f").unwrap(), "replaced\n");
                sh("cat z/f");
                wait();
                fs::write("d/n", "x").unwrap();
                assert_eq!(fs::read("d/n").unwrap(), b"x");
            },
        );
    }
}

#[test]
fn a_mapping_that_is_still_there_can_be_written_back() {
    let program = "
import mmap, sys
f = open('d/f', 'r+b')
m = mmap.mmap(f.fileno(), 0)
m[0:3] = b'new'
print('mapped', flush=True)
sys.stdin.read()
";
    for mode in modes() {
        with_host(
            mode,
            prepare,
            |host| {
                host.talk.hear();
                let path = host.root.join("d/f");
                host.mounted.write_back(&path);
                assert_eq!(fs::read(path).unwrap(), b"new");
                host.talk.say();
            },
            |inside| {
                let mut child = std::process::Command::new("python3")
                    .args(["-c", program])
                    .stdin(std::process::Stdio::piped())
                    .stdout(std::process::Stdio::piped())
                    .spawn()
                    .unwrap();
                let mut line = [0; 6];
                std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
                inside.talk.say();
                inside.talk.hear();
                drop(child.stdin.take());
                assert!(child.wait().unwrap().success());
                assert_eq!(fs::read("d/f").unwrap(), b"new");
            },
        );
    }
}

#[test]
fn without_a_time_to_live_nothing_need_be_told() {
    for mode in modes() {
        let prepare = |config: &mut Config| {
            prepare(config);
            config.ttl = std::time::Duration::ZERO;
        };
        with_host(
            mode,
            prepare,
            |host| {
                edit(host, "printf longer > d/f", &[]);
                edit(
                    host,
                    "printf replaced > x; mv x d/f; echo born > d/new",
                    &[],
                );
                edit(host, "rm d/new; mv d z; mkdir d; echo other > d/f", &[]);
            },
            |inside| {
                let wait = || {
                    inside.talk.say();
                    inside.talk.hear();
                };
                assert_eq!(sh("cat d/f; ls d; test ! -e d/new"), "olde\nf");
                wait();
                assert_eq!(sh("stat -c %s d/f; cat d/f"), "6\nlonger");
                wait();
                assert_eq!(sh("cat d/f d/new; ls d"), "replacedborn\ne\nf\nnew");
                wait();
                assert_eq!(sh("cat d/f; ls d z"), "other\nd:\nf\n\nz:\ne\nf");
            },
        );
    }
}

#[test]
fn observers_hear_of_changes() {
    for mode in modes() {
        with_host(
            mode,
            prepare,
            |host| {
                let told = |names: &[&str]| {
                    host.talk.hear();
                    // Closing is not waited for by the one who closes.
                    while host.n_open_files() > 0 {
                        std::thread::yield_now();
                    }
                    let mut expected: Vec<PathBuf> =
                        names.iter().map(|n| host.root.join(n)).collect();
                    let mut told = host.log.take();
                    expected.sort();
                    told.sort();
                    told.dedup();
                    assert_eq!(told, expected);
                    host.talk.say();
                };
                told(&[]);
                told(&["a"]);
                told(&["a", "b"]);
                told(&["b", "l"]);
                told(&["b", "l"]);
                told(&["b"]);
                told(&["l"]);
                told(&["s", "p", "dir"]);
                told(&["d", "dir/d"]);
                told(&["dir/d/f"]);
                told(&["dir/d/f"]);
            },
            |inside| {
                let done = || {
                    inside.talk.say();
                    inside.talk.hear();
                };
                sh("cat d/f; ls d; stat d/f; test ! -e nothing");
                done();
                fs::write("a", "").unwrap();
                done();
                fs::rename("a", "b").unwrap();
                done();
                fs::hard_link("b", "l").unwrap();
                fs::metadata("b").unwrap();
                OpenOptions::new()
                    .append(true)
                    .open("l")
                    .unwrap()
                    .write_all(b"x")
                    .unwrap();
                done();
                sh("chmod 600 b");
                done();
                fs::remove_file("b").unwrap();
                done();
                sh("touch l");
                done();
                sh("ln -s x s; mkfifo p; mkdir dir");
                done();
                fs::rename("d", "dir/d").unwrap();
                done();
                sh("truncate -s 1 dir/d/f");
                done();
                fs::remove_file("dir/d/f").unwrap();
                done();
                assert_eq!(fs::metadata("dir").unwrap().nlink(), 3);
            },
        );
    }
}
