//! A graph of rules and sources drawn by lot, and what a clean build of it makes: what the engine is compared with.

use crate::base::Digest;

/// xorshift64*.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).unwrap() % sides
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.roll(n) == 0
    }
}

/// What a program does.
#[derive(Debug, Clone)]
pub(super) enum Op {
    /// It reads a file, which may be absent.
    Read(String),
    /// It reads a file, and then the one among these that the content says.
    Follow(String, Vec<String>),
}

#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) constant: usize,
    pub(super) ops: Vec<Op>,
    /// Files among those that it reads which its rule names.
    pub(super) deps: Vec<String>,
    /// It fails on some inputs.
    pub(super) may_fail: bool,
    /// On some inputs it leaves its target out, which another rule makes then.
    pub(super) optional: bool,
    /// It makes a file more, whose name depends on the inputs.
    pub(super) star: bool,
    /// On each inputs it fails the first time.
    pub(super) flaky: bool,
}

impl Op {
    pub(super) fn word(&self) -> String {
        match self {
            Self::Read(name) => format!("r:{name}"),
            Self::Follow(name, list) => format!("f:{name}:{}", list.join(",")),
        }
    }

    pub(super) fn of(word: &str) -> Option<Self> {
        let (kind, rest) = word.split_once(':')?;
        Some(match (kind, rest.split_once(':')) {
            ("f", Some((name, list))) => Self::Follow(
                name.to_owned(),
                list.split(',').map(str::to_owned).collect(),
            ),
            _ => Self::Read(rest.to_owned()),
        })
    }

    /// What is read, in order, where `value` tells contents.
    pub(super) fn read(&self, value: &mut dyn FnMut(&str) -> String) -> Vec<String> {
        match self {
            Self::Read(name) => vec![value(name)],
            Self::Follow(name, list) => {
                let which = value(name);
                let at = usize::from(Digest::of(which.as_bytes()).0[0]) % list.len();
                vec![which, value(&list[at])]
            }
        }
    }
}

pub(super) fn result(name: &str, constant: usize, read: &[String]) -> String {
    let text = format!("{name} {constant} {}", read.join(" "));
    Digest::of(text.as_bytes()).hex()[..12].to_owned()
}

pub(super) fn leaves_out(optional: bool, result: &str) -> bool {
    optional && result.starts_with(['3', '4', '5', '6', '7'])
}

/// The last component of the name of a file more.
pub(super) fn more(result: &str) -> &str {
    if result.as_bytes()[1] % 2 == 0 {
        "0"
    } else {
        "1"
    }
}

/// What the rule says of a target that is left out.
const ELSE: usize = 9;

pub(super) fn fails(may_fail: bool, result: &str) -> bool {
    may_fail && result.starts_with(['0', '1', '2'])
}

/// A graph and what its sources contain: what a clean build of it makes.
pub(super) struct Model {
    pub(super) sources: Vec<usize>,
    pub(super) plans: Vec<Plan>,
}

impl Model {
    pub(super) fn random(dice: &mut Dice) -> Self {
        let sources = (0..2 + dice.roll(3)).map(|_| dice.roll(3)).collect();
        let mut model = Self {
            sources,
            plans: Vec::new(),
        };
        for n in 0..3 + dice.roll(8) {
            let ops: Vec<Op> = (0..1 + dice.roll(3)).map(|_| model.op(n, dice)).collect();
            let names = ops.iter().map(|op| match op {
                Op::Read(name) | Op::Follow(name, _) => name.clone(),
            });
            // A rule does not apply that needs what no rule makes.
            let known = |name: &String| match name.strip_prefix('t') {
                Some(rest) => rest.split('.').next().and_then(|n| n.parse().ok()) < Some(n),
                None => true,
            };
            let names = names.filter(known);
            let deps = names.filter(|_| dice.one_in(3)).collect();
            model.plans.push(Plan {
                constant: dice.roll(2),
                ops,
                deps,
                may_fail: dice.one_in(5),
                optional: dice.one_in(5),
                star: dice.one_in(4),
                flaky: dice.one_in(5),
            });
        }
        model
    }

    pub(super) fn op(&self, below: usize, dice: &mut Dice) -> Op {
        let mut name = || match below > 0 && !dice.one_in(3) {
            // Some go in a circle.
            true if dice.one_in(25) => format!("t{}", below + 1),
            true => {
                let number = dice.roll(below);
                match self.plans[number].star && dice.one_in(2) {
                    true => format!("t{number}.d/{}", dice.roll(2)),
                    false => format!("t{number}"),
                }
            }
            false => format!("s{}", dice.roll(self.sources.len())),
        };
        let (first, list) = (name(), vec![name(), name()]);
        match dice.one_in(3) {
            true => Op::Follow(first, list),
            false => Op::Read(first),
        }
    }

    pub(super) fn rules(&self) -> String {
        let rule = |(n, plan): (usize, &Plan)| {
            let words: Vec<String> = plan
                .ops
                .iter()
                .map(|op| format!("'{}'", op.word()))
                .collect();
            let deps: Vec<String> = plan.deps.iter().map(|dep| format!("'{dep}'")).collect();
            let star = match plan.star {
                true => format!(", 't{n}.d/{{*:.*}}'"),
                false => String::new(),
            };
            format!(
                "rule('j{n}', targets = [target('t{n}', optional = {}){star}], deps = [{}], retries = {}, \
                 cmd = ['/p', '{{target}}', '{}', '{}', '{}', '{}', '{}', {}])\n\
                 rule('e{n}', targets = 't{n}', priority = -1, \
                 cmd = ['/p', '{{target}}', '{ELSE}', 'false', 'false', 'false', 'false'])\n",
                if plan.optional { "True" } else { "False" },
                deps.join(", "),
                i32::from(plan.flaky),
                plan.constant,
                plan.may_fail,
                plan.optional,
                plan.star,
                plan.flaky,
                words.join(", ")
            )
        };
        self.plans.iter().enumerate().map(rule).collect()
    }

    pub(super) fn has_circles(&self) -> bool {
        let inside = |number: usize, name: &String| {
            let rest = name
                .strip_prefix('t')
                .and_then(|rest| rest.split('.').next());
            rest.and_then(|n| n.parse::<usize>().ok())
                .is_some_and(|n| n >= number)
        };
        self.plans.iter().enumerate().any(|(number, plan)| {
            plan.ops.iter().any(|op| match op {
                Op::Read(name) => inside(number, name),
                Op::Follow(name, list) => {
                    inside(number, name) || list.iter().any(|n| inside(number, n))
                }
            })
        })
    }

    /// The content of a file after a clean build; none where it cannot be made.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        self.value_within(name, &mut Vec::new())
    }

    /// The same where these are being made, which nobody who needs them can wait for.
    pub(super) fn value_within(&self, name: &str, within: &mut Vec<usize>) -> Option<String> {
        let (kind, number) = name.split_at(1);
        let (number, part) = match number.split_once(".d/") {
            Some((number, part)) => (number, Some(part)),
            None => (number, None),
        };
        let number: usize = number.parse().ok()?;
        if kind == "s" {
            return Some(self.sources[number].to_string());
        }
        let Some(plan) = self.plans.get(number) else {
            return Some(String::new());
        };
        if within.contains(&number) {
            return None;
        }
        within.push(number);
        let mut deps = plan.deps.iter();
        let mut failed = deps.any(|dep| self.value_within(dep, within).is_none());
        let mut read = Vec::new();
        for op in &plan.ops {
            read.extend(op.read(&mut |name| {
                let value = self.value_within(name, within);
                failed |= value.is_none();
                value.unwrap_or_default()
            }));
        }
        within.pop();
        let target = format!("t{number}");
        let made = result(&target, plan.constant, &read);
        if failed || fails(plan.may_fail, &made) {
            return None;
        }
        Some(match part {
            Some(part) if part == more(&made) => made,
            Some(_) => String::new(),
            None if leaves_out(plan.optional, &made) => result(&target, ELSE, &[]),
            None => made,
        })
    }
}
