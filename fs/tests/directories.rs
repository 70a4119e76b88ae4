//! Directories as they are read.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test of plain file operations"
)]

mod view;

use nix::dir::Dir;
use nix::fcntl::OFlag;
use std::collections::BTreeSet;
use std::fs;
use view::{everywhere, sh};

fn names(path: &str) -> BTreeSet<String> {
    fs::read_dir(path)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn a_big_directory_is_read_whole() {
    everywhere(|_| {
        let made: BTreeSet<String> = (0..1000)
            .map(|i| format!("a rather long name {i}"))
            .collect();
        fs::create_dir("d").unwrap();
        for name in &made {
            fs::write(format!("d/{name}"), "").unwrap();
        }
        assert_eq!(names("d"), made);
        // From the kernel's cache, and after a change.
        assert_eq!(names("d"), made);
        fs::remove_file(format!("d/{}", made.first().unwrap())).unwrap();
        fs::write("d/new", "").unwrap();
        let now = names("d");
        assert_eq!((now.len(), now.contains("new")), (1000, true));
        sh("rm -r d");
    });
}

#[test]
fn entries_removed_while_reading_hide_no_others() {
    everywhere(|_| {
        fs::create_dir("d").unwrap();
        for i in 0..800 {
            fs::write(format!("d/{i}"), "").unwrap();
        }
        let mut seen = BTreeSet::new();
        for entry in fs::read_dir("d").unwrap() {
            let entry = entry.unwrap();
            fs::remove_file(entry.path()).unwrap();
            assert!(seen.insert(entry.file_name()));
        }
        assert_eq!(seen.len(), 800);
        fs::remove_dir("d").unwrap();
    });
}

#[test]
fn positions_can_be_returned_to() {
    everywhere(|_| {
        // telldir(3) and seekdir(3), which Rust's libraries lack, by way of Perl.
        fs::create_dir("d").unwrap();
        for i in 0..500 {
            fs::write(format!("d/{i}"), "").unwrap();
        }
        let program = r#"
            opendir(my $d, "d") or die;
            my (@names, @at);
            while (1) { my $at = telldir($d); my $n = readdir($d); last unless defined $n; push @at, $at; push @names, $n; }
            die scalar @names unless @names == 502;
            for my $i (501, 0, 250, 499, 3) { seekdir($d, $at[$i]); my $n = readdir($d); die "$i: $n" unless $n eq $names[$i]; }
            rewinddir($d); die unless readdir($d) eq $names[0];
        "#;
        fs::write("p.pl", program).unwrap();
        sh("perl p.pl");
    });
}

#[test]
fn a_directory_open_twice_has_two_positions() {
    everywhere(|_| {
        for i in 0..300 {
            fs::write(format!("{i}"), "").unwrap();
        }
        let open = || {
            Dir::open(
                ".",
                OFlag::O_RDONLY | OFlag::O_DIRECTORY,
                nix::sys::stat::Mode::empty(),
            )
        };
        let (mut a, mut b) = (open().unwrap(), open().unwrap());
        let both = a.iter().zip(b.iter());
        let mut n = 0;
        for (x, y) in both {
            assert_eq!(x.unwrap().file_name(), y.unwrap().file_name());
            n += 1;
        }
        assert_eq!(n, 302);
    });
}

#[test]
fn entries_say_what_they_are() {
    everywhere(|_| {
        sh("mkdir d; touch f; ln -s f l; mkfifo p");
        let program = "import os; print(*sorted((e.name, e.is_dir(), e.is_symlink(), e.is_file(follow_symlinks=False), e.inode() == e.stat(follow_symlinks=False).st_ino) for e in os.scandir('.')))";
        assert_eq!(
            sh(&format!("python3 -c \"{program}\"")),
            "('d', True, False, False, True) ('f', False, False, True, True) \
             ('l', False, True, False, True) ('p', False, False, False, True)"
        );
    });
}
