//! Random changes by hand, as a user, an editor, a version control system or a clock make them.

use crate::dice::Dice;

/// What can be changed.
#[derive(Debug)]
pub struct Names<'a> {
    pub files: &'a [&'a str],
    pub dirs: &'a [&'a str],
    /// There are branches to check out.
    pub branches: bool,
    /// The order of time stamps in the tree is known. It is not when things are made side by side: then
    /// no file gets the time stamp of another one, since later comparisons would come out by chance.
    pub ordered: bool,
    /// Some edits are made in mid build, so that none may touch what builds write: what is changed by hand
    /// before its step has ended cannot be told from the step's own writing.
    pub apart: bool,
    /// Contents that a file may get.
    pub contents: &'a [&'a str],
}

/// Before every command of git: the repository is not in the workspace. Git takes a file for unchanged by
/// its time stamps in whole seconds; what it then rewrites would depend on when in a second it is asked.
/// So it has to look at all contents.
const GIT: &str = "export GIT_DIR=$PWD/../outside/git GIT_WORK_TREE=$PWD GIT_CONFIG_GLOBAL=/dev/null; \
                   rm -f $GIT_DIR/index; git read-tree HEAD; git update-index -q --refresh";

/// After git has changed some files: whether they are of one tick of the clock or not is chance.
const AT_ONCE: &str = "find . -name .rfs -prune -o -newer ../outside/t1 ! -type d \
                       -exec touch -h -r ../outside/t2 {} +";

/// A line that changes something, or tries to.
pub fn edit(dice: &mut Dice, names: &Names<'_>) -> String {
    let (a, b) = (dice.pick(names.files), dice.pick(names.files));
    let d = dice.pick(names.dirs);
    let content = dice.pick(names.contents);
    let n = dice.roll(4);
    let stamped = match names.ordered {
        true => String::new(),
        false => format!("; find -H {a} {b} -exec touch -h {{}} +"),
    };
    let line = match dice.roll(if names.branches { 32 } else { 27 }) {
        0..=5 => format!("printf '{content}' > {a}"),
        6 => format!("printf '{content}' >> {a}"),
        7 | 8 => format!("touch {a}"),
        9 => format!("rm -rf {a}"),
        10 => format!("rm -rf {d}"),
        11 => format!("mkdir -p {d}"),
        12 => format!("mv {a} {b}{stamped}"),
        13 => {
            let texts: &[&str] = match names.apart {
                true => &["s", "gone"],
                false => &["a", "../b", "d", "none"],
            };
            format!("rm -rf {a}; ln -s {} {a}", dice.pick(texts))
        }
        14 => format!("chmod {} {a}", dice.pick(&["644", "755", "600", "400"])),
        15 => format!("ln {a} {b}{stamped}"),
        16 => format!("cp -p {a} ../outside/kept.{n}"),
        17 => format!("cp ../outside/kept.{n} {a}"),
        18 => format!("cp -p ../outside/kept.{n} {a}{stamped}"),
        // Another content under the old size and time.
        19 => format!(
            "touch -r {a} ../outside/time && printf '#' | dd of={a} bs=1 conv=notrunc && touch -r ../outside/time {a}"
        ),
        20 => format!("touch -d '203{n}-01-01 UTC' {a}"),
        21 => format!("touch -d '200{n}-01-01 UTC' {a}"),
        22 if names.apart => {
            format!("touch -c -d '20{n}0-01-01 UTC' {}", names.files.join(" "))
        }
        22 => {
            format!("find . -name .rfs -prune -o -type f -exec touch -d '20{n}0-01-01 UTC' {{}} +",)
        }
        23 => format!("cp -p {a} {a}.new && mv {a}.new {a}"),
        24 => format!("mv {a} ../outside/t; mv {b} {a}; mv ../outside/t {b}{stamped}"),
        25 => format!("printf '{content}' > {d}/new{n}"),
        26 => format!("rm -f {d}/new*; chmod {} {d}", dice.pick(&["755", "700"])),
        27..=30 => format!(
            "{GIT}; git checkout -qf {}; {AT_ONCE}",
            dice.pick(&["one", "two", "three"])
        ),
        _ => format!("{GIT}; git reset -q --hard; git clean -fdxq -e .rfs; {AT_ONCE}"),
    };
    format!("({line}) > /dev/null 2>&1")
}

/// The clock is set forward or back: everything there is that much older or younger, one to another as before,
/// and what is made from now on may be older than what it is made from.
pub fn clock_step(dice: &mut Dice) -> String {
    // However often, it stays what was made by the clock (`tree`).
    let step = dice.pick(&["-1 hour", "-40 days", "1 hour", "1 hour", "40 days"]);
    format!("find . -name .rfs -prune -o -exec touch -h -r {{}} -d '{step}' {{}} \\;")
}

/// A piece that puts the workspace, as it is when the piece is done, on three branches.
pub fn branches(dice: &mut Dice, names: &Names<'_>) -> Vec<String> {
    let commit = "git add -A && git -c user.name=n -c user.email=e commit -q --allow-empty -m m";
    let mut pieces = vec![format!(
        "({GIT}; git init -q -b one && {commit}) > /dev/null 2>&1"
    )];
    let plain = Names {
        branches: false,
        ..*names
    };
    for name in ["two", "three"] {
        pieces.push(format!(
            "({GIT}; git checkout -qfb {name} one) > /dev/null 2>&1"
        ));
        for _ in 0..1 + dice.roll(3) {
            pieces.push(edit(dice, &plain));
        }
        pieces.push(format!("({GIT}; {commit}) > /dev/null 2>&1"));
    }
    pieces.push(format!("({GIT}; git checkout -qf one) > /dev/null 2>&1"));
    pieces
}
