//! What the functions of an `Rfsfile` have gathered, kept where the interpreter can find it.
//!
//! One of the listed files with unsafe code: the interpreter's own derivation, and nothing else.
#![allow(unsafe_code)]

use super::Rule;
use starlark::any::ProvidesStaticType;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What the functions have gathered so far.
#[derive(Debug, ProvidesStaticType)]
pub(super) struct Gathered {
    pub(super) root: PathBuf,
    pub(super) env: BTreeMap<String, String>,
    pub(super) rules: RefCell<Vec<Rule>>,
    pub(super) sources: RefCell<Vec<String>>,
    pub(super) resources: RefCell<BTreeMap<String, u64>>,
    pub(super) shell: RefCell<String>,
    pub(super) n_anti: Cell<usize>,
}

impl Gathered {
    pub(super) fn new(root: PathBuf, env: BTreeMap<String, String>) -> Self {
        Self {
            root,
            env,
            rules: RefCell::default(),
            sources: RefCell::default(),
            resources: RefCell::default(),
            shell: RefCell::new("/bin/sh".to_owned()),
            n_anti: Cell::new(0),
        }
    }

    pub(super) fn add(&self, rule: Rule) -> Result<(), String> {
        let mut rules = self.rules.borrow_mut();
        if let Some(other) = rules.iter().find(|other| other.name == rule.name) {
            let Rule { name, at, .. } = other;
            return Err(format!("there is a rule {name:?} already, at {at}"));
        }
        rules.push(rule);
        Ok(())
    }
}
