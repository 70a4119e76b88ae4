//! A machine as people read it: a tree in text, a picture, and what is different between two.

pub mod difference;
pub mod picture;

use super::size;
use crate::base::topology::{Kind, Machine, Object};
use std::fmt::Write;

/// The tree, an object a line; a chain of objects that hold one another alone shares a line.
#[must_use]
pub fn text(machine: &Machine) -> String {
    let mut lines = String::new();
    write_object(&mut lines, &machine.root, 0, "");
    lines
}

fn write_object(lines: &mut String, object: &Object, depth: usize, before: &str) {
    let label = format!("{before}{}", label(object));
    let alone = object.memory.is_empty() && object.devices.is_empty();
    if let ([only], true) = (object.children.as_slice(), alone) {
        return write_object(lines, only, depth, &format!("{label} + "));
    }
    let _infallible = writeln!(lines, "{:width$}{label}", "", width = depth * 2);
    for below in object
        .memory
        .iter()
        .chain(&object.children)
        .chain(&object.devices)
    {
        write_object(lines, below, depth + 1, "");
    }
}

/// One object: kind, logical number, the kernel's number, size.
#[must_use]
pub fn label(object: &Object) -> String {
    let mut label = object.kind.to_string();
    if !matches!(object.kind, Kind::Machine) && !object.kind.is_device() {
        let _infallible = write!(label, " L#{}", object.logical);
    }
    if let Some(name) = &object.name {
        let _infallible = write!(label, " {name:?}");
    }
    let mut more = Vec::new();
    if let (Some(os), Kind::Pu | Kind::Numa) = (object.os, object.kind) {
        more.push(format!("P#{os}"));
    }
    if object.bytes > 0 {
        more.push(size::text(object.bytes));
    }
    if !more.is_empty() {
        let _infallible = write!(label, " ({})", more.join(" "));
    }
    label
}
