//! Random scripts in random small trees, run again after random edits: bare and wrapped runs must be
//! equal in all that can be seen. What each run may serve is not stated here, only that it is right.

use std::fs;

use crate::dice::Dice;
use crate::probe::assert_same_run;
use crate::run::{Cmd, Run};
use crate::space::{Setting, TestSpace};
use crate::tree::{Tree, assert_same};

/// Few names, so that they meet.
const FILES: [&str; 9] = ["a", "b", "c", "d/a", "d/b", "d/e/a", "f/a", "l", "d/l"];
const DIRS: [&str; 5] = ["d", "d/e", "f", "g", "l"];

/// One line of a script.
fn line(dice: &mut Dice, files: &[&str], dirs: &[&str]) -> String {
    let (a, b) = (dice.pick(files), dice.pick(files));
    let (d, e) = (dice.pick(dirs), dice.pick(dirs));
    let n = dice.roll(5);
    match dice.roll(36) {
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
        _ => format!("test -s {a} || exit {n}"),
    }
}

/// A script of lines of which some are steps of their own. No message names a temporary file.
fn script(dice: &mut Dice) -> String {
    let mut text = String::new();
    for _ in 0..2 + dice.roll(7) {
        let line = line(dice, &FILES, &DIRS);
        match dice.roll(5) {
            4 => text += &side_by_side(dice),
            0 => text += &format!("sh -c '{}'\n", line.replace('\'', "'\\''")),
            1 => text += &format!("sh -c '{}' || exit 1\n", line.replace('\'', "'\\''")),
            2 => text += &format!("({line}) & wait $!\n"),
            _ => text += &format!("{line}\n"),
        }
    }
    text
}

/// Steps that run at the same time, each in a directory of its own.
fn side_by_side(dice: &mut Dice) -> String {
    let mut text = String::new();
    for dir in ["d", "f", "g"] {
        let mut lines = String::new();
        for _ in 0..1 + dice.roll(3) {
            let line = line(dice, &["a", "b", "e/a", "l"], &["e", "l", "k"]).replace("../", "");
            lines += &format!("sh -c '{}'; ", line.replace('\'', "'\\''"));
        }
        text += &format!("(cd {dir} && {{ {lines} }}) > said.{dir} 2>&1 & ");
    }
    text + "wait; cat said.*\n"
}

/// A change by hand.
fn edit(s: &TestSpace, dice: &mut Dice) -> String {
    let (a, d) = (dice.pick(&FILES), dice.pick(&DIRS));
    let n = dice.roll(4);
    let line = match dice.roll(13) {
        0..=3 => "true".to_owned(),
        4 | 5 => format!("echo edit{n} > {a}"),
        6 => format!("rm -rf {a}"),
        7 => format!("rm -rf {d}"),
        8 => format!("mkdir -p {d}"),
        9 => format!("mv {a} {}", dice.pick(&FILES)),
        10 => format!(
            "rm -rf {a}; ln -s {} {a}",
            dice.pick(&["a", "../b", "d", "none"])
        ),
        11 => format!("chmod {} {a}", dice.pick(&["644", "755"])),
        _ => format!("touch {a}; ln {a} {}", dice.pick(&FILES)),
    };
    let _as_may_be = s.bare(Cmd::sh(&line));
    line
}

fn begin(s: &TestSpace, seed: u64) {
    // A link leads there.
    ["../a", "../b"].iter().for_each(|path| s.remove(path));
    let mut dice = Dice::new(seed);
    let text = script(&mut dice);
    for file in FILES {
        if dice.roll(2) == 0 && !file.ends_with('l') {
            s.write(file, format!("word {file}\n"));
        }
    }
    for dir in ["d", "f"] {
        if !s.exists(dir) {
            s.mkdir(dir);
        }
    }
    s.write("../outside/build.sh", text);
}

/// All of one story: what was done before each run, and what came of it.
fn story(
    s: &TestSpace,
    seed: u64,
    mut run: impl FnMut(&TestSpace) -> Run,
) -> Vec<(String, Run, Tree)> {
    let mut dice = Dice::new(seed + 1_000_000);
    begin(s, seed);
    (0..7)
        .map(|round| {
            let done = match dice.roll(6) {
                _ if round == 0 => "the beginning".to_owned(),
                0 => {
                    s.wipe();
                    begin(s, seed);
                    "the beginning again".to_owned()
                }
                _ => edit(s, &mut dice),
            };
            (done, run(s), s.tree())
        })
        .collect()
}

/// Tells a story twice. Returns how many of the wrapped runs were served as a whole.
fn tell(seed: u64, setting: Setting) -> usize {
    let s = TestSpace::with(setting);
    let cmd = || Cmd::from("sh ../outside/build.sh");
    let bare = story(&s, seed, |s| s.bare(cmd()));
    s.wipe();
    let text = || fs::read_to_string(s.root().join("outside/build.sh")).unwrap();
    let mut told = String::new();
    let mut at = 0;
    let wrapped = story(&s, seed, |s| {
        let run = s.rfs(cmd());
        let (done, bare_run, tree) = &bare[at];
        told += &format!("\n{at}. {done}: {:?}", run.summary);
        let when = format!("seed {seed} {setting:?}\n{}{told}\n{run:#?}", text());
        assert_same_run(bare_run, &run, &when);
        assert_same(tree, &s.tree(), &when);
        at += 1;
        run
    });
    wrapped
        .iter()
        .filter(|(_, run, _)| run.summary().whole_hit)
        .count()
}

fn tell_all(seeds: std::ops::Range<u64>, setting: Setting) {
    let n = seeds.end - seeds.start;
    let n_served: usize = seeds.map(|seed| tell(seed, setting)).sum();
    assert!(
        n_served as u64 > n,
        "some of the runs are served: {n_served} in {n} stories"
    );
}

/// A change of the C project by hand; some only touch, some undo what was done before.
fn edit_project(s: &TestSpace, dice: &mut Dice) -> String {
    let source = dice.pick(&[
        "src/main.c",
        "src/v1.c",
        "src/v2.c",
        "lib/part.c",
        "lib/part1.c",
    ]);
    let n = dice.roll(3);
    let line = match dice.roll(15) {
        0 => "true".to_owned(),
        1 | 2 => format!("sed -i 's/^int extra.*//' {source}; echo 'int extra{n};' >> {source}"),
        3 => format!("echo '// {n}' >> {source}"),
        4 => format!("touch {source}"),
        5 => format!("echo '#define EXTRA {n}' >> include/part.h"),
        6 => "touch include/part.h".to_owned(),
        7 => format!("echo {n}.0 > VERSION"),
        8 => "make clean > /dev/null".to_owned(),
        9 => format!("rm -f obj/{}.o", dice.pick(&["main", "v1", "v2"])),
        10 => "rm -f prog lib/part.o".to_owned(),
        11 => format!("echo 'int new{n};' > src/new{n}.c"),
        12 => "rm -f src/new*.c obj/new*".to_owned(),
        13 => format!(
            "echo broken >> {source}; make 2> /dev/null > /dev/null; sed -i /broken/d {source}"
        ),
        _ => format!("echo broken >> {source}"),
    };
    let _as_may_be = s.bare(Cmd::sh(&line));
    if !line.contains("broken") {
        s.must(Cmd::sh(
            "grep -l broken src/*.c lib/*.c | xargs -r sed -i /broken/d",
        ));
    }
    line
}

/// One story of a day with make: what make decides to do, and says, is decided by time stamps.
fn tell_of_make(seed: u64, setting: Setting) {
    let s = TestSpace::with(setting);
    let story = |run: &mut dyn FnMut(&TestSpace, &str, &str)| {
        let mut dice = Dice::new(seed);
        crate::make::project(&s);
        run(&s, "the beginning", "make");
        for _ in 0..8 {
            let done = edit_project(&s, &mut dice);
            run(
                &s,
                &done,
                dice.pick(&["make", "make", "make -k", "make clean all"]),
            );
        }
    };
    let mut bare = Vec::new();
    story(&mut |s, _, cmd| bare.push((s.bare(cmd), s.tree())));
    s.wipe();
    let mut told = String::new();
    let mut rounds = bare.iter();
    story(&mut |s, done, cmd| {
        let run = s.rfs(cmd);
        let (bare, tree) = rounds.next().unwrap();
        told += &format!("\n{done}; {cmd}: {:?}", run.summary);
        let when = format!("seed {seed} {setting:?}{told}\n{run:#?}");
        assert_same_run(bare, &run, &when);
        assert_same(tree, &s.tree(), &when);
    });
}

#[test]
fn random_days_with_make() {
    (0..4).for_each(|seed| tell_of_make(seed, Setting::default()));
}

#[test]
fn random_days_with_make_of_nobody() {
    (4..6).for_each(|seed| {
        tell_of_make(
            seed,
            Setting {
                nobody: true,
                tracer: None,
            },
        );
    });
}

#[test]
fn random_stories_1() {
    tell_all(0..15, Setting::default());
}

#[test]
fn random_stories_2() {
    tell_all(15..30, Setting::default());
}

#[test]
fn random_stories_of_nobody() {
    tell_all(
        30..40,
        Setting {
            nobody: true,
            tracer: None,
        },
    );
}

#[test]
fn random_stories_under_ptrace() {
    tell_all(
        40..50,
        Setting {
            nobody: false,
            tracer: Some("ptrace"),
        },
    );
}
