//! Many processes and threads at once: progress, and what must be atomic is.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test of plain file operations"
)]

mod view;

use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use view::{everywhere, sh};

const N: usize = 32;

/// Runs `work` in many threads at once; their panics are the test's.
fn at_once(n: usize, work: impl Fn(usize) + Sync) {
    let start = Barrier::new(n);
    std::thread::scope(|scope| {
        for i in 0..n {
            let (start, work) = (&start, &work);
            scope.spawn(move || {
                start.wait();
                work(i);
            });
        }
    });
}

#[test]
fn threads_do_not_disturb_each_other() {
    everywhere(|_| {
        fs::write("shared", "shared").unwrap();
        at_once(N, |i| {
            let dir = format!("d{i}");
            fs::create_dir(&dir).unwrap();
            for j in 0..10 {
                let (new, name) = (format!("{dir}/new"), format!("{dir}/{j}"));
                fs::write(&new, format!("{i} {j}")).unwrap();
                fs::rename(&new, &name).unwrap();
                assert_eq!(fs::read_to_string(&name).unwrap(), format!("{i} {j}"));
                assert_eq!(fs::read_to_string("shared").unwrap(), "shared");
            }
            assert_eq!(fs::read_dir(&dir).unwrap().count(), 10);
            fs::remove_dir_all(&dir).unwrap();
        });
        assert_eq!(sh("ls"), "shared");
    });
}

#[test]
fn one_directory_serves_all() {
    everywhere(|_| {
        at_once(N, |i| {
            for j in 0..10 {
                fs::write(format!("{i}-{j}"), "x").unwrap();
                fs::hard_link(format!("{i}-{j}"), format!("{i}-{j}-l")).unwrap();
                fs::remove_file(format!("{i}-{j}")).unwrap();
            }
        });
        assert_eq!(fs::read_dir(".").unwrap().count(), 10 * N);
    });
}

#[test]
fn one_file_is_opened_by_all() {
    everywhere(|_| {
        fs::write("f", vec![b'x'; 4096]).unwrap();
        at_once(N, |i| {
            for _ in 0..20 {
                let file = OpenOptions::new()
                    .read(true)
                    .write(i % 2 == 0)
                    .open("f")
                    .unwrap();
                let mut bytes = [0; 4096];
                file.read_exact_at(&mut bytes, 0).unwrap();
                assert!(
                    bytes[i * 16 + 16..]
                        .iter()
                        .all(|b| *b == b'x' || *b == b'y')
                );
                if i % 2 == 0 {
                    file.write_all_at(b"y", i as u64 * 16).unwrap();
                }
            }
        });
        assert_eq!(
            fs::read("f")
                .unwrap()
                .iter()
                .filter(|b| **b == b'y')
                .count(),
            N / 2
        );
    });
}

#[test]
fn renaming_a_directory_does_not_disturb_those_who_work_in_it() {
    everywhere(|_| {
        sh("mkdir -p a/b/c; echo x > a/b/c/f");
        let inner = File::open("a/b/c").unwrap();
        let held = rustix::fs::openat(&inner, "f", OFlags::PATH, Mode::empty()).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..150 {
                    fs::rename("a", "z").unwrap();
                    fs::rename("z/b", "z/y").unwrap();
                    fs::rename("z/y", "z/b").unwrap();
                    fs::rename("z", "a").unwrap();
                }
                done.store(true, Ordering::Release);
            });
            for i in 0..4 {
                let (inner, held, done) = (&inner, &held, &done);
                scope.spawn(move || {
                    let mut j = 0;
                    while !done.load(Ordering::Acquire) {
                        let flags = OFlags::CREATE | OFlags::RDWR;
                        let name = format!("{i}-{j}");
                        j += 1;
                        rustix::fs::openat(inner, &name, flags, Mode::RWXU).unwrap();
                        rustix::fs::chmodat(inner, &name, Mode::RUSR, rustix::fs::AtFlags::empty())
                            .unwrap();
                        let stat =
                            rustix::fs::statat(inner, "f", rustix::fs::AtFlags::empty()).unwrap();
                        assert_eq!(stat.st_size, 2);
                        assert_eq!(rustix::fs::fstat(held).unwrap().st_size, 2);
                        rustix::fs::openat(inner, "f", OFlags::RDONLY, Mode::empty()).unwrap();
                        rustix::fs::unlinkat(inner, &name, rustix::fs::AtFlags::empty()).unwrap();
                    }
                });
            }
        });
        assert_eq!(sh("ls a/b/c"), "f");
    });
}

#[test]
fn a_file_that_loses_its_name_can_be_asked_about_all_the_time() {
    everywhere(|_| {
        for i in 0..40 {
            let name = format!("f{i}");
            fs::write(&name, "xyz").unwrap();
            let held = rustix::fs::open(&name, OFlags::PATH, Mode::empty()).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| match i % 3 {
                    0 => fs::remove_file(&name).unwrap(),
                    1 => fs::rename(&name, "other").unwrap(),
                    _ => {
                        fs::write("new", "").unwrap();
                        fs::rename("new", &name).unwrap();
                    }
                });
                for _ in 0..20 {
                    // Makes the kernel ask: it forgets attributes when it is told to change them.
                    let chmod = rustix::fs::chmod(
                        format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held)),
                        Mode::RUSR | Mode::WUSR,
                    );
                    chmod.unwrap();
                    assert_eq!(rustix::fs::fstat(&held).unwrap().st_size, 3);
                }
            });
        }
    });
}

#[test]
fn a_name_that_is_replaced_is_never_absent() {
    everywhere(|_| {
        fs::write("f", "0").unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for i in 0..200 {
                    // What was exchanged is perhaps still read, so it is not to be written to.
                    fs::remove_file("new").ok();
                    fs::write("new", format!("{i}")).unwrap();
                    let exchange = if i % 2 == 0 {
                        RenameFlags::EXCHANGE
                    } else {
                        RenameFlags::empty()
                    };
                    rustix::fs::renameat_with(CWD, "new", CWD, "f", exchange).unwrap();
                }
                done.store(true, Ordering::Release);
            });
            for _ in 0..4 {
                scope.spawn(|| {
                    while !done.load(Ordering::Acquire) {
                        assert!(!fs::read("f").unwrap().is_empty());
                        assert!(fs::metadata("f").unwrap().nlink() <= 1);
                    }
                });
            }
        });
    });
}

#[test]
fn what_was_just_written_can_be_executed() {
    everywhere(|_| {
        let program = fs::read("/bin/true").unwrap();
        for i in 0..30 {
            let name = format!("./p{i}");
            fs::write(&name, &program).unwrap();
            fs::set_permissions(&name, fs::Permissions::from_mode(0o755)).unwrap();
            assert!(
                std::process::Command::new(&name)
                    .status()
                    .unwrap()
                    .success()
            );
        }
    });
}
