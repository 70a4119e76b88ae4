//! Names: links, renames, removal of what is open, names that are hidden.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test of plain file operations"
)]

mod view;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use view::{Mode, everywhere, sh, with_host};

fn rename(from: &str, to: &str, flags: RenameFlags) -> Result<(), Errno> {
    renameat_with(CWD, from, CWD, to, flags)
}

#[test]
fn rename_replaces_refuses_or_exchanges() {
    everywhere(|_| {
        fs::write("a", "a").unwrap();
        fs::write("b", "b").unwrap();
        assert_eq!(rename("a", "b", RenameFlags::NOREPLACE), Err(Errno::EXIST));
        rename("a", "b", RenameFlags::EXCHANGE).unwrap();
        assert_eq!(
            (fs::read("a").unwrap(), fs::read("b").unwrap()),
            (b"b".into(), b"a".into())
        );
        rename("a", "c", RenameFlags::NOREPLACE).unwrap();
        assert!(!fs::exists("a").unwrap());
        rename("b", "c", RenameFlags::empty()).unwrap();
        assert_eq!(fs::read("c").unwrap(), b"a");
        assert_eq!(sh("ls"), "c");
        assert_eq!(rename("c", "d", RenameFlags::WHITEOUT), Err(Errno::INVAL));
    });
}

#[test]
fn directories_can_be_exchanged_with_files() {
    everywhere(|_| {
        sh("mkdir d; echo f > d/f; echo x > x");
        rename("d", "x", RenameFlags::EXCHANGE).unwrap();
        assert_eq!(sh("cat d x/f"), "x\nf");
        assert_eq!(rename("x", "x/y", RenameFlags::empty()), Err(Errno::INVAL));
        assert_eq!(rename("d", "x", RenameFlags::empty()), Err(Errno::ISDIR));
    });
}

#[test]
fn a_moved_directory_takes_its_files_along() {
    everywhere(|_| {
        sh("mkdir -p a/b/c; echo 1 > a/b/c/f; stat a/b/c/f");
        let mut open = File::open("a/b/c/f").unwrap();
        sh("mv a/b z; test ! -e a/b; cat z/c/f; echo 2 >> z/c/f; mkdir a/b; echo 3 > a/b/f");
        let mut text = String::new();
        open.read_to_string(&mut text).unwrap();
        assert_eq!(text, "1\n2\n");
        assert_eq!(open.metadata().unwrap().len(), 4);
        assert_eq!(
            sh("find . | sort | tr '\\n' ' '"),
            ". ./a ./a/b ./a/b/f ./z ./z/c ./z/c/f"
        );
    });
}

#[test]
fn hard_links_are_one_file() {
    everywhere(|_| {
        fs::write("a", "1").unwrap();
        fs::create_dir("d").unwrap();
        fs::hard_link("a", "d/b").unwrap();
        let (a, b) = (fs::metadata("a").unwrap(), fs::metadata("d/b").unwrap());
        assert_eq!((a.ino(), a.nlink(), b.nlink()), (b.ino(), 2, 2));
        fs::write("a", "12").unwrap();
        assert_eq!(fs::metadata("d/b").unwrap().len(), 2);
        // rename(2) of one name of a file to another does nothing.
        fs::rename("a", "d/b").unwrap();
        assert_eq!(fs::read("a").unwrap(), b"12");
        fs::remove_file("a").unwrap();
        assert_eq!(fs::metadata("d/b").unwrap().nlink(), 1);
        assert_eq!(fs::read("d/b").unwrap(), b"12");
        symlink("nowhere", "l").unwrap();
        fs::hard_link("l", "m").unwrap();
        assert_eq!(fs::read_link("m").unwrap(), Path::new("nowhere"));
    });
}

#[test]
fn what_is_open_outlives_its_last_name() {
    everywhere(|_| {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open("f")
            .unwrap();
        file.write_all(b"one").unwrap();
        fs::remove_file("f").unwrap();
        file.write_all(b"two").unwrap();
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "onetwo");
        assert_eq!(
            (
                file.metadata().unwrap().len(),
                file.metadata().unwrap().nlink()
            ),
            (6, 0)
        );
        file.set_len(2).unwrap();
        rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(0o640)).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o640);
        let again = fs::read(format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(&file)
        ));
        assert_eq!(again.unwrap(), b"on");
        fs::write("f", "new").unwrap();
        assert_eq!(file.metadata().unwrap().len(), 2);
        assert_eq!(sh("ls"), "f");
    });
}

#[test]
fn what_is_renamed_over_stays_readable_to_those_who_have_it_open() {
    everywhere(|_| {
        fs::write("f", "old").unwrap();
        let mut old = File::open("f").unwrap();
        fs::write("g", "newer").unwrap();
        fs::rename("g", "f").unwrap();
        let mut text = String::new();
        old.read_to_string(&mut text).unwrap();
        assert_eq!(text, "old");
        assert_eq!(old.metadata().unwrap().nlink(), 0);
        assert_eq!(fs::read("f").unwrap(), b"newer");
    });
}

#[test]
fn a_removed_working_directory_can_be_asked_about() {
    everywhere(|_| {
        assert_eq!(
            sh("mkdir d; cd d; rmdir ../d; stat -c %F,%h .; ls; touch x || echo no"),
            "directory,0\nno"
        );
    });
}

#[test]
fn directories_count_their_links() {
    everywhere(|_| {
        sh("mkdir -p d/1 d/2; touch d/f");
        assert_eq!(fs::metadata("d").unwrap().nlink(), 4);
        assert_eq!(
            fs::remove_dir("d").unwrap_err().raw_os_error(),
            Some(libc::ENOTEMPTY)
        );
        sh("rmdir d/1");
        assert_eq!(fs::metadata("d").unwrap().nlink(), 3);
        assert_eq!(
            fs::remove_file("d").unwrap_err().raw_os_error(),
            Some(libc::EISDIR)
        );
        assert_eq!(
            fs::remove_dir("d/f").unwrap_err().raw_os_error(),
            Some(libc::ENOTDIR)
        );
    });
}

#[test]
fn hidden_names_are_not_there() {
    for mode in view::modes() {
        let prepare = |config: &mut rfs_fs::Config| {
            fs::create_dir(config.root.join(".rfs")).unwrap();
            fs::write(config.root.join(".rfs/x"), "").unwrap();
        };
        with_host(
            mode,
            prepare,
            |_| {},
            |_| {
                let errno = |e: std::io::Error| e.raw_os_error();
                assert_eq!(sh("ls -A; mkdir d; touch d/.rfs; ls -A d"), ".rfs");
                assert_eq!(
                    fs::metadata(".rfs/x").map_err(errno).err(),
                    Some(Some(libc::ENOENT))
                );
                assert_eq!(fs::write(".rfs", "").map_err(errno), Err(Some(libc::EPERM)));
                assert_eq!(
                    fs::create_dir(".rfs").map_err(errno),
                    Err(Some(libc::EPERM))
                );
                assert_eq!(
                    fs::rename("d", ".rfs").map_err(errno),
                    Err(Some(libc::EPERM))
                );
                assert_eq!(
                    fs::hard_link("d/.rfs", ".rfs").map_err(errno),
                    Err(Some(libc::EPERM))
                );
                assert_eq!(
                    fs::remove_dir(".rfs").map_err(errno),
                    Err(Some(libc::ENOENT))
                );
            },
        );
    }
}

#[test]
fn the_root_is_a_directory_like_any() {
    everywhere(|inside| {
        assert_eq!(
            sh("cd ..; ls -d work/.; cd work; pwd"),
            format!("work/.\n{}", inside.root.display())
        );
        assert_ne!(sh("stat -c %d ."), sh("stat -c %d .."));
        assert_eq!(sh("stat -c %i ."), sh("cd ..; stat -c %i work"));
        sh("chmod 750 .; touch -d @5 .");
        assert_eq!(sh("stat -c '%a %Y' ."), "750 5");
    });
}

#[test]
fn numbers_are_those_of_the_backing_files() {
    with_host(
        view::modes()[0],
        |config| {
            fs::create_dir(config.root.join("d")).unwrap();
            fs::write(config.root.join("d/f"), "").unwrap();
        },
        |host| {
            host.talk.hear();
            let ino = |p: &str| fs::metadata(host.root.join(p)).unwrap().ino().to_string();
            let seen = fs::read_to_string(host.root.join("seen")).unwrap();
            assert_eq!(seen, format!("{} {} {}", ino(""), ino("d"), ino("d/f")));
        },
        |inside| {
            let ino = |p: &str| fs::metadata(p).unwrap().ino().to_string();
            fs::write("seen", format!("{} {} {}", ino("."), ino("d"), ino("d/f"))).unwrap();
            inside.talk.say();
        },
    );
}

#[test]
fn names_may_be_any_bytes_up_to_255() {
    everywhere(|_| {
        use std::os::unix::ffi::OsStrExt;
        let name = std::ffi::OsStr::from_bytes(b"\xff\n\\ *\x01");
        fs::write(name, "x").unwrap();
        assert_eq!(
            fs::read_dir(".")
                .unwrap()
                .next()
                .unwrap()
                .unwrap()
                .file_name(),
            name
        );
        fs::write("n".repeat(255), "x").unwrap();
        let e = fs::write("n".repeat(256), "x").unwrap_err();
        assert_eq!(e.raw_os_error(), Some(libc::ENAMETOOLONG));
    });
}

#[test]
fn another_filesystem_below_the_root_is_crossed() {
    // A mount of the host's, so only root can prepare it.
    if !view::modes().contains(&Mode::Passthrough) {
        return;
    }
    let host_mount = tempfile::tempdir().unwrap();
    rustix::mount::mount(
        "t",
        host_mount.path(),
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        None,
    )
    .unwrap();
    fs::write(host_mount.path().join("f"), "tmpfs").unwrap();
    let below = host_mount.path().join("d");
    fs::create_dir(&below).unwrap();
    for mode in [Mode::Passthrough, Mode::Cached] {
        with_host(
            mode,
            |config| {
                let at = config.root.join("m");
                fs::create_dir(&at).unwrap();
                // In the namespace of the server and of its child only.
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
                let private = rustix::mount::MountPropagationFlags::PRIVATE
                    | rustix::mount::MountPropagationFlags::REC;
                rustix::mount::mount_change("/", private).unwrap();
                rustix::mount::mount_bind(host_mount.path(), &at).unwrap();
            },
            |_| {},
            |_| {
                assert_eq!(fs::read_to_string("m/f").unwrap(), "tmpfs");
                fs::write("m/d/g", "x").unwrap();
                let inos = sh("stat -c %i m m/f m/d m/d/g . | sort -u | wc -l");
                assert_eq!(inos, "5");
                assert_eq!(rename("m/f", "f", RenameFlags::empty()), Err(Errno::XDEV));
                sh("rm m/d/g; rmdir m/d; mkdir m/d");
            },
        );
    }
    rustix::mount::unmount(host_mount.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
}
