//! How one execution differs from another one of the same step. Pure.

use super::{Access, Change, Name, Record, State, What};
use std::collections::BTreeMap;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// The command is another one.
    Command,
    /// It looks at a name that it did not look at.
    NewInput(Name),
    /// It does not look at a name any more.
    LostInput(Name),
    /// What it looked at was different.
    Input(Name, Change),
    /// It wrote a name that it did not write.
    NewOutput(Name),
    /// It does not write a name any more.
    LostOutput(Name),
    /// It wrote something else.
    Output(Name),
    /// It printed something else.
    Printed,
    /// It ended with another status.
    Status,
}

/// What is different in `new` from `old`: command, inputs, outputs, what was printed, status; names in
/// their order.
#[must_use]
pub fn difference(old: &Record, new: &Record) -> Vec<Difference> {
    let mut found = Vec::new();
    if old.title != new.title {
        found.push(Difference::Command);
    }
    let inputs = |record: &Record| -> BTreeMap<Name, (Access, State)> {
        let deps = record.deps.iter();
        deps.map(|dep| (dep.name.clone(), (dep.access, dep.state.clone())))
            .collect()
    };
    compare(&inputs(old), &inputs(new), |name| {
        found.push(Difference::LostInput(name));
    });
    compare(&inputs(new), &inputs(old), |name| {
        found.push(Difference::NewInput(name));
    });
    let before = inputs(old);
    for (name, (access, state)) in inputs(new) {
        let Some((access_before, state_before)) = before.get(&name) else {
            continue;
        };
        // Only what both looked at can be compared.
        let both = Access::from_bits(access.bits() & access_before.bits());
        if let Some(change) = state_before.change(&state, both) {
            found.push(Difference::Input(name, change));
        }
    }
    let outputs = |record: &Record| -> BTreeMap<Name, What> {
        let outputs = record.outputs.iter();
        outputs
            .map(|output| (output.name.clone(), output.what.clone()))
            .collect()
    };
    let (before, now) = (outputs(old), outputs(new));
    compare(&before, &now, |name| {
        found.push(Difference::LostOutput(name));
    });
    compare(&now, &before, |name| {
        found.push(Difference::NewOutput(name));
    });
    for (name, what) in now {
        if before.get(&name).is_some_and(|before| *before != what) {
            found.push(Difference::Output(name));
        }
    }
    if old.chunks != new.chunks {
        found.push(Difference::Printed);
    }
    if old.status != new.status {
        found.push(Difference::Status);
    }
    found
}

/// Gives the names that `one` has and `other` has not.
fn compare<T>(one: &BTreeMap<Name, T>, other: &BTreeMap<Name, T>, mut each: impl FnMut(Name)) {
    for name in one.keys().filter(|name| !other.contains_key(name)) {
        each(name.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Dep, Digest, Output, Stamp};

    fn name(text: &str) -> Name {
        Name::from_bytes(text.as_bytes())
    }

    fn dep(text: &str, content: Option<&str>) -> Dep {
        let state = content.map_or(State::Absent, |content| State::File {
            mode: [0o644, 0, 0],
            size: 1,
            mtime: 0,
            digest: Some(Digest::of(content.as_bytes())),
        });
        Dep {
            name: name(text),
            access: Access::KIND | Access::REG,
            state,
            rank: 0,
        }
    }

    fn record(deps: Vec<Dep>, outputs: &[(&str, &str)]) -> Record {
        let outputs = outputs.iter().map(|(text, content)| Output {
            name: name(text),
            what: What::Link(content.as_bytes().to_vec()),
            stamp: Stamp::Keep,
            owner: None,
        });
        Record {
            title: "cc".to_owned(),
            deps,
            outputs: outputs.collect(),
            ..Record::default()
        }
    }

    #[test]
    fn each_difference_is_told_once() {
        let old = record(
            vec![dep("a", Some("1")), dep("b", None), dep("c", None)],
            &[("o", "1"), ("p", "1")],
        );
        assert_eq!(difference(&old, &old), []);
        let mut new = record(
            vec![dep("a", Some("2")), dep("b", Some("1")), dep("d", None)],
            &[("o", "2"), ("q", "1")],
        );
        new.status = 1;
        assert_eq!(
            difference(&old, &new),
            [
                Difference::LostInput(name("c")),
                Difference::NewInput(name("d")),
                Difference::Input(name("a"), Change::Content),
                Difference::Input(name("b"), Change::Appeared),
                Difference::LostOutput(name("p")),
                Difference::NewOutput(name("q")),
                Difference::Output(name("o")),
                Difference::Status,
            ]
        );
    }
}
