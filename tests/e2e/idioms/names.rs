//! Names and files at the limits: long, not UTF-8, with line breaks; very many; very large.

use super::{long, twice};
use crate::probe::{Hit, Refused};
use crate::run::Cmd;
use crate::space::TestSpace;
use std::os::unix::fs::MetadataExt;

#[test]
fn bytes_that_are_no_text() {
    let cmd = r#"
        printf a > "$(printf 'caf\351')"; printf b > "$(printf 'new\nline')"; printf c > ' lead '
        printf d > '-dash'; printf e > "$(printf 'tab\there\001\177')"; mkdir "$(printf 'd\n\377')"
        for f in *; do sh -c 'test -f "./$1" && sort -- "$1" > "d
"*/"$1.sorted"' sh "$f"; done
        cc -c -x c /dev/null -o "$(printf 'o\n\377.o')"
        ln -s "$(printf 'caf\351')" "$(printf 'link\377')"; cat "$(printf 'link\377')"
        ls -b . d*; ls *
        ls "$(printf 'no such\n\377')""#;
    twice(|_| {}, Cmd::sh(cmd), Hit);
}

/// The longest names that the kernel takes, and ones that it does not.
#[test]
fn longest_names() {
    let script = r#"
        use Cwd;
        $l = 4095 - length(getcwd) - length("/leaf");
        while ($l > 1) { $n = $l > 252 ? 250 : $l - 1; push @d, "d" x $n; $l -= $n + 1 }
        for $d (@d) { mkdir $d or die $!; chdir $d or die $! }
        open F, ">", "leaf" or die $!; print F "deep\n"; close F;
        open F, "<", "leaf" or die $!; print <F>; close F;
        for (@d) { chdir ".." or die $! }
        $p = ("x" x 200 . "/") x 20;
        for $p ($p . "y" x (4095 - length $p), $p . "y" x (4096 - length $p)) { print -e $p ? 1 : 0, " $!\n" }
        for $n (4000, 4100) { print open(F, ">", "." . "/" x $n . "slashes") ? 1 : 0, " $!\n"; $! = 0 }
        for $n (255, 256) { print mkdir("n" x $n) ? 1 : 0, " $!\n"; $! = 0 }
    "#;
    twice(|_| {}, Cmd::new(["perl", "-e", script]), Hit);
}

/// Below directories that are entered one by one a file's whole name can be longer than the kernel
/// takes: nobody can look at it by that name, so nothing is served. (The tree cannot be read by its
/// names either: the program says itself what is there.)
#[test]
fn names_longer_than_the_kernel_takes() {
    let script = r#"
        $d = "d" x 250;
        for (1..20) { mkdir $d or die $!; chdir $d or die $! }
        open F, ">", "leaf" or die $!; print F "deep\n"; close F;
        open F, "<", "leaf" or die $!; print <F>; close F; unlink "leaf" or die $!;
        for (1..20) { chdir ".." or die $!; rmdir $d or die $! }
    "#;
    twice(
        |_| {},
        Cmd::new(["sh", "-c", "perl -e \"$1\"; echo $?", "sh", script]),
        Refused,
    );
}

/// More outputs than a process may have open files.
#[test]
fn many_files_in_one_directory() {
    let n = if long() { 100_000 } else { 3_000 };
    let script = format!(
        "mkdir q(d); for (1..{n}) {{ open F, q(>), qq(d/f$_) or die $!; print F $_ % 7; close F }}"
    );
    let cmd = Cmd::new(["perl", "-e", &script]).outer(["prlimit", "--nofile=1000:1000"]);
    let mut listed = cmd.clone();
    listed.patience = std::time::Duration::from_secs(900);
    twice(|_| {}, listed, Hit);
}

/// What is not there takes no room in the cache either.
#[test]
fn sparse_file() {
    let size: u64 = if long() { 5 << 30 } else { 300 << 20 };
    let cmd = format!(
        "truncate -s {size} hole; printf x | dd of=hole bs=1 seek=100000000 conv=notrunc status=none; \
         du -k hole | awk '{{ print ($1 < 1000) }}'"
    );
    let s = TestSpace::new();
    let mut expected = None;
    for round in 1..=3 {
        s.wipe();
        let mut cmd = Cmd::sh(&cmd);
        cmd.patience = std::time::Duration::from_secs(600);
        let run = if round == 1 { s.bare(cmd) } else { s.rfs(cmd) }.expect_code(0);
        assert_eq!(run.out(), "1\n");
        let meta = std::fs::metadata(s.path("hole")).unwrap();
        assert_eq!(meta.len(), size);
        assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
        let sum = s.bare("sha1sum hole").expect_code(0).out();
        assert_eq!(*expected.get_or_insert(sum.clone()), sum, "round {round}");
        match round {
            1 => (),
            2 => drop(run.expect_ran()),
            _ => drop(run.expect_hit()),
        }
    }
    let kept = s
        .bare(Cmd::new(["du", "-sk", "../cache"]))
        .expect_code(0)
        .out();
    let kib: u64 = kept.split_whitespace().next().unwrap().parse().unwrap();
    assert!(kib < 10_000, "the cache takes {kib} KiB");
}
