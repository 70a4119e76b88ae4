//! What is different between two machines: objects that only one has, and properties that changed.

use super::label;
use crate::base::topology::{Kind, Machine, Object};
use std::collections::BTreeMap;

/// One line a difference, in the order of the trees: `- ` only the first has it, `+ ` only the second has
/// it. Empty when they are alike.
#[must_use]
pub fn lines(old: &Machine, new: &Machine) -> Vec<String> {
    let (old_objects, new_objects) = (objects(old), objects(new));
    let mut lines = Vec::new();
    for (key, was) in &old_objects {
        match new_objects.get(key) {
            None => lines.push(format!("- {was}")),
            Some(is) if is != was => {
                lines.push(format!("- {was}"));
                lines.push(format!("+ {is}"));
            }
            Some(_same) => {}
        }
    }
    let added = new_objects
        .iter()
        .filter(|(key, _is)| !old_objects.contains_key(*key));
    lines.extend(added.map(|(_key, is)| format!("+ {is}")));
    for (what, was, is) in [
        ("processors allowed", &old.allowed, &new.allowed),
        (
            "memory nodes allowed",
            &old.allowed_nodes,
            &new.allowed_nodes,
        ),
    ] {
        if was != is {
            lines.push(format!("- {what}: {was}"));
            lines.push(format!("+ {what}: {is}"));
        }
    }
    lines
}

/// Each object by its kind and number, with all that is known of it.
fn objects(machine: &Machine) -> BTreeMap<(Kind, usize, Option<String>), String> {
    let known = |object: &Object| {
        let key = (object.kind, object.logical, object.name.clone());
        let text = format!(
            "{}: cpus {}, nodes {}",
            label(object),
            object.cpus,
            object.nodes
        );
        (key, text)
    };
    machine.root.all().map(known).collect()
}
