//! Attributes: modes, owners, times, extended attributes, space.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test of plain file operations"
)]

mod view;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, XattrFlags};
use rustix::io::Errno;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use view::{Mode, everywhere, sh, with_host, with_strangers};

/// Runs a shell command as a user that owns nothing.
fn sh_nobody(command: &str) -> String {
    let nobody = format!("setpriv --reuid 65534 --regid 65534 --clear-groups sh -ec '{command}'");
    sh(&nobody)
}

fn by_root(inside: impl Fn(&view::Inside<'_>)) {
    for mode in view::modes() {
        if mode != Mode::Unprivileged {
            with_host(mode, |_| {}, |_| {}, &inside);
        }
    }
}

fn mode(path: &str) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn modes_are_set_by_path_and_descriptor() {
    everywhere(|_| {
        fs::write("f", "").unwrap();
        for bits in [0o4755, 0o2755, 0o1700, 0o000, 0o644] {
            fs::set_permissions("f", Permissions::from_mode(bits)).unwrap();
            assert_eq!(mode("f"), bits);
        }
        let file = File::open("f").unwrap();
        file.set_permissions(Permissions::from_mode(0o600)).unwrap();
        assert_eq!(mode("f"), 0o600);
        sh("mkdir d; chmod 3770 d");
        assert_eq!(mode("d"), 0o3770);
    });
}

#[test]
fn the_umask_of_the_requester_counts_and_no_other() {
    everywhere(|_| {
        sh(
            "umask 0; touch a; mkdir b; mknod c p; umask 077; touch d; mkdir e; mkfifo f; umask 027; touch g",
        );
        let modes: Vec<String> = ["a", "b", "c", "d", "e", "f", "g"]
            .iter()
            .map(|f| format!("{:o}", mode(f)))
            .collect();
        assert_eq!(modes, ["666", "777", "666", "600", "700", "600", "640"]);
    });
}

#[test]
fn a_default_acl_stands_in_for_the_umask() {
    // u::rwx, u:65534:rwx, g::rwx, m::rwx, o::rx in the form of the system.posix_acl_* attributes.
    let mut acl = vec![2, 0, 0, 0];
    for (tag, perm, id) in [
        (1_u16, 7_u16, u32::MAX),
        (2, 7, 65534),
        (4, 7, u32::MAX),
        (16, 7, u32::MAX),
        (32, 5, u32::MAX),
    ] {
        acl.extend([tag as u8, 0, perm as u8, 0]);
        acl.extend((0..4).map(|i| (id >> (8 * i)) as u8));
    }
    for mode in view::modes() {
        let prepare = |config: &mut rfs_fs::Config| {
            let dir = config.root.join("d");
            fs::create_dir(&dir).unwrap();
            let set =
                rustix::fs::setxattr(&dir, "system.posix_acl_default", &acl, XattrFlags::empty());
            if set == Err(Errno::OPNOTSUPP) {
                fs::remove_dir(&dir).unwrap();
            }
        };
        with_host(
            mode,
            prepare,
            |_| {},
            |_| {
                if fs::exists("d").unwrap() {
                    sh("umask 077; touch d/f; mkdir d/d");
                    assert_eq!(sh("stat -c %a d/f d/d d/d"), "664\n775\n775");
                }
            },
        );
    }
}

#[test]
fn new_files_belong_to_who_made_them() {
    by_root(|_| {
        sh("chmod 777 .");
        sh_nobody("umask 0; touch f; mkdir d; mkfifo p; ln -s x l; ln f h");
        assert_eq!(sh("stat -c %u:%g f d p l h | sort -u"), "65534:65534");
        // A setgid directory hands down its group, and to directories the bit.
        sh("mkdir g; chown 7:8 g; chmod 2777 g");
        sh_nobody("touch g/f; mkdir g/d");
        assert_eq!(sh("stat -c %u:%g:%a g/f g/d"), "65534:8:644\n65534:8:2755");
        sh("install -m 4755 /bin/true t; install -o 65534 -g 65534 -m 6755 /bin/true u");
        assert_eq!(sh("stat -c %u:%g:%a t u"), "0:0:4755\n65534:65534:6755");
        sh_nobody("umask 0; python3 -c \"import os; os.open(\\\"s\\\", os.O_CREAT, 0o6755)\"");
        assert_eq!(sh("stat -c %u:%g:%a s"), "65534:65534:6755");
    });
}

#[test]
fn permissions_are_checked() {
    by_root(|_| {
        sh(
            "echo x > secret; chmod 600 secret; mkdir closed; touch closed/f; chmod 700 closed; mkdir d",
        );
        sh_nobody(
            "! cat secret 2>&1; ! ls closed 2>&1; ! stat closed/f 2>&1; ! touch d/f 2>&1; ! rm secret 2>&1",
        );
        sh_nobody(
            "! chmod 777 secret 2>&1; ! chown 65534 secret 2>&1; ! touch -d @1 secret 2>&1; ! mv d e 2>&1",
        );
        // Not by sticky directories either.
        sh("chmod 1777 d; touch d/f");
        sh_nobody("! rm -f d/f 2>&1; touch d/own; rm d/own");
        assert_eq!(sh("ls d"), "f");
    });
}

#[test]
fn writing_and_giving_away_clear_setuid() {
    by_root(|_| {
        sh("echo x > f; chown 65534:65534 f; chmod 6777 f");
        sh_nobody("echo y >> f");
        assert_eq!(mode("f"), 0o777);
        sh("chmod 6777 f");
        sh_nobody("truncate -s 0 f");
        assert_eq!(mode("f"), 0o777);
        sh("chmod 6777 f");
        sh_nobody(": > f");
        assert_eq!(mode("f"), 0o777);
        sh("chmod 6755 f; chown 7:8 f");
        assert_eq!((mode("f"), fs::metadata("f").unwrap().uid()), (0o755, 7));
        sh("chmod 4755 f; echo z >> f");
        assert_eq!(mode("f"), 0o4755, "root's writes clear nothing");
    });
}

#[test]
fn times_are_set_and_left() {
    everywhere(|_| {
        fs::write("f", "").unwrap();
        symlink("f", "l").unwrap();
        let times = |a: (i64, i64), m: (i64, i64)| Timestamps {
            last_access: Timespec {
                tv_sec: a.0,
                tv_nsec: a.1 as _,
            },
            last_modification: Timespec {
                tv_sec: m.0,
                tv_nsec: m.1 as _,
            },
        };
        let set =
            |path: &str, t: &Timestamps, flags| rustix::fs::utimensat(CWD, path, t, flags).unwrap();
        let seen = |path: &str| {
            let m = fs::symlink_metadata(path).unwrap();
            ((m.atime(), m.atime_nsec()), (m.mtime(), m.mtime_nsec()))
        };
        let omit = (0, UTIME_OMIT);
        set("f", &times((1, 2), (3, 4)), AtFlags::empty());
        assert_eq!(seen("f"), ((1, 2), (3, 4)));
        set("f", &times(omit, (5, 6)), AtFlags::empty());
        assert_eq!(seen("f"), ((1, 2), (5, 6)));
        set("f", &times((-7, 500_000_000), omit), AtFlags::empty());
        assert_eq!(seen("f"), ((-7, 500_000_000), (5, 6)));
        set("l", &times((8, 0), (9, 0)), AtFlags::SYMLINK_NOFOLLOW);
        assert_eq!((seen("l"), seen("f").1), (((8, 0), (9, 0)), (5, 6)));
        set("f", &times(omit, (0, UTIME_NOW)), AtFlags::empty());
        assert!(seen("f").1.0 > 1_600_000_000);
        let file = File::open("f").unwrap();
        rustix::fs::futimens(&file, &times((1, 1), (2, 2))).unwrap();
        assert_eq!(seen("f"), ((1, 1), (2, 2)));
    });
}

#[test]
fn directories_change_when_names_do() {
    everywhere(|_| {
        sh("mkdir d e; touch d/a; touch -d @1 d e");
        let mtime = |p: &str| fs::metadata(p).unwrap().mtime();
        assert_eq!(mtime("d"), 1);
        sh("touch d/b");
        assert!(mtime("d") > 1);
        sh("touch -d @1 d; mv d/a e");
        assert!(mtime("d") > 1 && mtime("e") > 1);
        sh("touch -d @1 d; rm d/b");
        assert!(mtime("d") > 1);
        sh("touch -d @1 d; mkdir d/x");
        assert!(mtime("d") > 1);
    });
}

#[test]
fn extended_attributes_are_kept() {
    everywhere(|_| {
        fs::write("f", "").unwrap();
        let set = |name: &str, value: &[u8], flags| rustix::fs::setxattr("f", name, value, flags);
        set("user.a", b"1", XattrFlags::CREATE).unwrap();
        assert_eq!(set("user.a", b"2", XattrFlags::CREATE), Err(Errno::EXIST));
        assert_eq!(set("user.b", b"2", XattrFlags::REPLACE), Err(Errno::NODATA));
        set("user.b", &[7; 3000], XattrFlags::empty()).unwrap();
        set("user.empty", b"", XattrFlags::empty()).unwrap();
        let get = |name: &str, len: usize| {
            let mut value = vec![0; len];
            rustix::fs::getxattr("f", name, &mut value[..]).map(|n| value[..n].to_vec())
        };
        assert_eq!(get("user.a", 10), Ok(b"1".to_vec()));
        assert_eq!(get("user.b", 3000), Ok(vec![7; 3000]));
        assert_eq!(get("user.b", 2999), Err(Errno::RANGE));
        assert_eq!(get("user.empty", 10), Ok(vec![]));
        assert_eq!(rustix::fs::getxattr_query("f", "user.b"), Ok(3000));
        let mut list = vec![0; 1000];
        let n = rustix::fs::listxattr("f", &mut list[..]).unwrap();
        let mut names: Vec<&[u8]> = list[..n]
            .split(|b| *b == 0)
            .filter(|n| n.starts_with(b"user."))
            .collect();
        names.sort();
        assert_eq!(names, [&b"user.a"[..], b"user.b", b"user.empty"]);
        rustix::fs::removexattr("f", "user.a").unwrap();
        assert_eq!(get("user.a", 10), Err(Errno::NODATA));
        let file = File::open("f").unwrap();
        fs::remove_file("f").unwrap();
        assert_eq!(rustix::fs::fgetxattr_query(&file, "user.b"), Ok(3000));
        symlink("x", "l").unwrap();
        let on_link = rustix::fs::lsetxattr("l", "user.a", b"1", XattrFlags::empty());
        assert_eq!(on_link, Err(Errno::PERM));
    });
}

#[test]
fn space_is_that_of_the_backing_filesystem() {
    everywhere(|inside| {
        let here = rustix::fs::statvfs(".").unwrap();
        let backing = rustix::fs::statvfs(inside.root.parent().unwrap()).unwrap();
        assert_eq!(
            (here.f_blocks, here.f_bsize, here.f_files, here.f_namemax),
            (
                backing.f_blocks,
                backing.f_bsize,
                backing.f_files,
                backing.f_namemax
            )
        );
    });
}

#[test]
fn special_files_work() {
    everywhere(|inside| {
        sh("mkfifo p; echo through > p & cat p");
        let listener = std::os::unix::net::UnixListener::bind("s").unwrap();
        let mut ours = std::os::unix::net::UnixStream::connect("s").unwrap();
        let mut theirs = listener.accept().unwrap().0;
        std::io::Write::write_all(&mut ours, b"x").unwrap();
        std::io::Read::read_exact(&mut theirs, &mut [0]).unwrap();
        assert_eq!(sh("stat -c %F p s"), "fifo\nsocket");
        if inside.mode != Mode::Unprivileged {
            sh("mknod n c 1 3; mknod b b 259 70000");
            assert_eq!(
                sh("stat -c '%F %t %T' n b"),
                "character special file 1 3\nblock special file 103 11170"
            );
            sh("echo x > n");
        }
    });
}

#[test]
fn locks_exclude_other_processes() {
    everywhere(|_| {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open("f")
            .unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
        sh("! flock -n f true");
        rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
        let python = "python3 -c 'import fcntl; f = open(\"f\", \"r+\"); fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)'";
        sh(&format!("! {python} 2> /dev/null"));
        drop(file);
        sh(&format!("flock -n f true; {python}"));
    });
}

#[test]
fn files_of_other_owners_can_be_used_as_without_the_view() {
    if !view::modes().contains(&Mode::Passthrough) {
        return;
    }
    let strangers = |root: &std::path::Path| {
        let team = view::TEAM;
        sh(&format!(
            "cd {}; umask 0; echo x > own; chown 65534:{team} own; chmod 664 own
             echo x > shared; chown 0:{team} shared; chmod 664 shared
             echo x > theirs; chmod 644 theirs; echo x > secret; chmod 640 secret
             mkdir dir; chown 0:{team} dir; chmod 2775 dir; ln -s own link",
            root.display()
        ));
    };
    with_strangers(
        Mode::Unprivileged,
        strangers,
        |_| {},
        |host| {
            host.talk.hear();
            let stat = format!(
                "cd {}; stat -c %U:%g:%a dir/new own shared",
                host.root.display()
            );
            let team = view::TEAM;
            assert_eq!(
                sh(&stat),
                format!("nobody:{team}:600\nnobody:{team}:640\nroot:{team}:664")
            );
        },
        |inside| {
            sh("echo y >> own; echo y > own; chmod 640 own; touch own");
            sh("echo y >> shared; truncate -s 1 shared; touch shared; cat link");
            sh("echo y > dir/new; chmod 600 dir/new; mv dir/new dir/n; mv dir/n dir/new");
            sh("cat theirs; ! echo y > theirs 2> /dev/null; ! cat secret 2> /dev/null");
            sh("! chmod 777 theirs 2> /dev/null; ! chown 65534 theirs 2> /dev/null");
            assert_eq!(sh("stat -c %u:%g own"), "65534:65534");
            inside.talk.say();
        },
    );
}
