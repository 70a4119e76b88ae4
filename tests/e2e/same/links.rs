//! Random sequences about symbolic links alone: what they lead to is turned again and again. In the general
//! ones that a step reads by a link whose text changes is rare.

use crate::dice::Dice;
use crate::space::Setting;

use super::plan::{Kind, Plan, Round};

const SEEDS: std::ops::Range<u64> = 0..12;

const LINKS: [&str; 4] = ["l", "d/l", "e/l", "m"];
const DIRS: [&str; 2] = ["k", "e/k"];

fn line(dice: &mut Dice, n: usize) -> String {
    let (l, k) = (dice.pick(&LINKS), dice.pick(&DIRS));
    match dice.roll(9) {
        0 => format!("cat {l} > out{n}"),
        1 => format!("sort {l} {k}/a"),
        2 => format!("readlink {l}"),
        3 => format!("if [ -e {l} ]; then echo {l}; else echo none; fi"),
        4 => format!("ls {k}/"),
        5 => format!("cp -P {l} out{n}"),
        6 => format!("(cd {k} && cat a l > b; pwd -P | tail -c 3)"),
        7 => format!("cp {l} out{n}"),
        _ => format!("wc -c < {k}/a"),
    }
}

fn edit(dice: &mut Dice) -> String {
    match dice.roll(5) {
        0 => format!(
            "echo edit{} > {}",
            dice.roll(3),
            dice.pick(&["a", "b", "d/a", "e/a"])
        ),
        1 => format!("ln -sfn {} k", dice.pick(&["d", "e", "none"])),
        2 => format!("ln -sfn {} e/k", dice.pick(&["../d", "../e", ".."])),
        3 => format!(
            "ln -sfn {} {}",
            dice.pick(&["a", "b", "d/a", "l"]),
            dice.pick(&["l", "m"])
        ),
        _ => format!(
            "ln -sfn {} d/l; ln -sfn {} e/l",
            dice.pick(&["a", "../b"]),
            dice.pick(&["../a", "a"])
        ),
    }
}

fn plan(seed: u64) -> Plan {
    let dice = &mut Dice::new(seed);
    let mut pieces = vec![
        "mkdir d e; echo a > a; echo b > b; echo da > d/a; echo ea > e/a".to_owned(),
        "ln -s a l; ln -s ../a d/l; ln -s a e/l; ln -s l m; ln -s d k; ln -s ../d e/k".to_owned(),
    ];
    for n in 0..4 {
        let mut line = line(dice, n);
        if dice.roll(2) == 0 {
            line = format!("sh -c '{line}'");
        }
        pieces.push(format!("cat >> ../outside/build.sh <<'END'\n{line}\nEND"));
    }
    let rounds = (0..7).map(|n| Round {
        kind: Kind::Edited,
        edits: (0..usize::from(n > 0)).map(|_| edit(dice)).collect(),
        cmd: "sh ../outside/build.sh".to_owned(),
    });
    Plan {
        seed,
        setting: Setting::default(),
        merged: false,
        rounds: rounds.collect(),
        pieces,
    }
}

#[test]
fn random_links() {
    for seed in SEEDS {
        let plan = plan(seed);
        if let Err(fault) = super::tell(&plan) {
            panic!(
                "seed {seed}: round {} ({}): {}\n{}",
                fault.round,
                fault.sort,
                fault.text,
                plan.reproduction()
            );
        }
    }
}
