//! Random shell scripts over few names, so that they meet.

use crate::dice::Dice;

use super::plan::GATE;

pub const FILES: [&str; 9] = ["a", "b", "c", "d/a", "d/b", "d/e/a", "f/a", "l", "d/l"];
pub const DIRS: [&str; 5] = ["d", "d/e", "f", "g", "l"];
/// Written by hand only, so that time stamps can be compared with theirs.
pub const SOURCES: [&str; 3] = ["s", "d/s", "f/s"];
/// What no script writes or moves.
pub const APART: [&str; 2] = ["s", "u/s"];

/// One line of a script.
fn line(dice: &mut Dice, files: &[&str], dirs: &[&str]) -> String {
    let (a, b) = (dice.pick(files), dice.pick(files));
    let (d, e) = (dice.pick(dirs), dice.pick(dirs));
    let n = dice.roll(5);
    match dice.roll(58) {
        0..=3 => format!("cat {a} > {b}"),
        4 => format!("cat {a} >> {b}"),
        5 => format!("echo word{n} > {b}"),
        6 => format!("echo word{n} >> {b}"),
        7 => format!("cp {a} {b}"),
        8 => format!("cp -p {a} {b}"),
        9 => format!("cp -r {d} {}", dice.pick(&["new", "new/new", "newer"])),
        10 => format!("mv {a} {b}"),
        11 => format!("mv {d} {e}"),
        12 => format!("rm -f {a}"),
        13 => format!("rm -rf {d}"),
        14 => format!("ln {a} {b}"),
        15 => format!(
            "ln -s {} {b}",
            dice.pick(&["a", "../a", "d", "none", "e/a"])
        ),
        16 => format!("ln -sf {} {b}", dice.pick(&["b", "../b", "e", "none"])),
        17 => format!("mkdir {d}"),
        18 => format!("mkdir -p {d}"),
        19 => format!("rmdir {d}"),
        20 => format!("if [ -e {a} ]; then echo {a}; else echo no {a}; fi"),
        21 => format!("[ -d {d} ] && echo {d} > {b}"),
        22 => format!("ls {d}"),
        23 => format!("cat {d}/* > {b}"),
        24 => format!("find {d} 2> /dev/null | sort"),
        25 => format!("chmod {} {a}", dice.pick(&["600", "755", "400", "u+w"])),
        26 => format!("sed -i s/word/WORD/ {a}"),
        27 => format!("readlink {a}"),
        28 => format!("stat -c '%s %a %F %h' {a}"),
        29 => format!("truncate -s {n} {a}"),
        30 => format!("printf X | dd of={a} bs=1 seek={n} conv=notrunc 2> /dev/null"),
        31 => format!("sort {a} {b}"),
        32 => format!(
            "t=$(mktemp 2> /dev/null -p {d} t.XXXXXX) && if cat {a} > $t; then mv $t {b} 2> /dev/null || rm $t; else rm $t; fi"
        ),
        33 => format!("exec 7< {a} && {{ read x <&7; cat <&7; echo $x; exec 7<&-; }}"),
        34 => format!("(cd {d} && cat a > b)"),
        35 => format!("echo \"<$V>\" > {b}"),
        36 => format!("for x in {d}/*; do echo $x; [ ! -L $x ] || readlink $x; done"),
        37 => format!("{{ echo one; echo two >&2; cat {a}; echo three; }} > {b}"),
        38 => format!("echo to stdout; cat {a}; echo to stderr >&2; cat {b} | tr a-z A-Z"),
        39 => format!(
            "t=$(mktemp -d) && cp {a} $t/x 2> /dev/null && (cd $t && tr o 0 < x > y) && cat $t/y > {b}; rm -r $t"
        ),
        40 => format!("perl -i -pe s/o/00/ {a}"),
        41 => format!(
            "perl -e 'for (@ARGV) {{ print -s $_ // q(none), qq( $_\\n) }}' {a} {b} | tee {d}/sizes"
        ),
        42 => format!(
            "[ -x {a} ] && echo can || {{ [ -r {a} ] && [ -L {b} ] && echo link; echo cannot; }}"
        ),
        43 => format!("(umask 077; cat {a} > {b}; mkdir {d}/private)"),
        44 => format!("install -m {} {a} {b}", dice.pick(&["644", "755", "600"])),
        45 => format!("cmp {a} {b} && echo same"),
        46 => format!("wc -l < {a} > {b}"),
        47 => format!("[ {a} -ef {b} ] && echo one file; [ -s {a} ] && echo some"),
        48 => format!("tar cf - {d} 2> /dev/null | tar tf - | sort"),
        // Not for ever when both are one file.
        49 => format!("x=$(cat {a}); echo \"$x\" | while read x y; do echo \"$y $x\"; done >> {b}"),
        50 => format!("mv -n {a} {b}; ls -d {a} {b}"),
        51 => format!("ln -f {a} {b}; echo more >> {a}"),
        52 => format!("rm {a}; false"),
        53 => format!("grep -rh word {d} | sort | uniq -c"),
        54 => format!(
            "python3 -SE -c 'import os, sys; print(sorted(os.listdir(sys.argv[1])))' {d} 2> /dev/null"
        ),
        55 => format!(
            "touch {a}; echo '#!/bin/sh' > {b}; echo echo ran $V >> {b}; chmod +x {b}; ./{b}"
        ),
        56 => format!("touch -d '200{n}-01-01 UTC' {a}"),
        _ => format!("test -s {a} || exit {n}"),
    }
}

/// A line that compares time stamps: of a file written by hand with one that may be written by the
/// script, so that they are never the same by chance.
fn comparing(dice: &mut Dice) -> String {
    let (s, a) = (dice.pick(&SOURCES), dice.pick(&FILES));
    match dice.roll(3) {
        0 => format!("if [ {s} -nt {a} ]; then echo {a} is old; cat {s} > {a}; fi"),
        1 => format!("[ {a} -nt {s} ] && echo {a} is new || echo {a} is not"),
        _ => format!("if [ {a} -ot {s} ] || [ ! -e {a} ]; then cp {s} {a} && echo made {a}; fi"),
    }
}

fn quoted(text: &str) -> String {
    text.replace('\'', "'\\''")
}

/// The lines of a script, of which some are steps of their own. No message names a temporary file.
pub fn script(dice: &mut Dice, parallel: bool, gated: bool) -> Vec<String> {
    let n = 3 + dice.roll(6);
    let gate_at = dice.roll(n);
    let mut lines = Vec::new();
    for at in 0..n {
        let one = match dice.roll(10) {
            0 => comparing(dice),
            _ => line(dice, &FILES, &DIRS),
        };
        lines.push(match dice.roll(if parallel { 6 } else { 5 }) {
            5 => side_by_side(dice),
            0 => format!("sh -c '{}'", quoted(&one)),
            1 => format!("sh -c '{}' || exit 1", quoted(&one)),
            2 => {
                let two = line(dice, &FILES, &DIRS);
                format!("sh -c '{}'", quoted(&format!("{one}; {two}")))
            }
            3 if parallel => format!("({one}) & wait $!"),
            _ => one,
        });
        if gated && at == gate_at {
            let (before, after) = (line(dice, &FILES, &DIRS), line(dice, &FILES, &DIRS));
            let (a, b) = (dice.pick(&[&APART[..], &FILES].concat()), dice.pick(&FILES));
            let waiting = match dice.roll(3) {
                0 => format!("cat {a} > {b}; {GATE}; cat {a} >> {b}"),
                1 => format!("{before}; {GATE}; {after}"),
                _ => format!("{before}; sh -c '{GATE}'; cat {a}"),
            };
            lines.push(match dice.roll(4) {
                0 => waiting,
                _ => format!("sh -c '{}'", quoted(&waiting)),
            });
        }
    }
    lines
}

/// Steps that run at the same time, each in a directory of its own.
fn side_by_side(dice: &mut Dice) -> String {
    let mut text = String::new();
    for dir in ["d", "f", "g"] {
        let mut lines = String::new();
        for _ in 0..1 + dice.roll(3) {
            let line = line(dice, &["a", "b", "e/a", "l"], &["e", "l", "k"]).replace("../", "");
            lines += &format!("sh -c '{}'; ", quoted(&line));
        }
        text += &format!("(cd {dir} && {{ {lines} }}) > said.{dir} 2>&1 & ");
    }
    text + "wait; cat said.*"
}

/// The pieces that make a workspace with such a script.
pub fn workspace(dice: &mut Dice, parallel: bool, gated: bool) -> Vec<String> {
    let mut pieces: Vec<String> = ["mkdir -p d/e", "mkdir -p f"].map(str::to_owned).into();
    for file in FILES.iter().filter(|file| !file.ends_with('l')) {
        if dice.roll(2) == 0 {
            pieces.push(format!("echo word {file} > {file}"));
        }
    }
    for file in SOURCES {
        pieces.push(format!("echo source {file} > {file}"));
    }
    for line in script(dice, parallel, gated) {
        pieces.push(format!("cat >> ../outside/build.sh <<'END'\n{line}\nEND"));
    }
    pieces
}
