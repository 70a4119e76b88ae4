//! What the functions of an `Rfsfile` have gathered, kept where the interpreter can find it.
//!
//! One of the listed files with unsafe code: the interpreter's own derivation, and nothing else.
#![allow(unsafe_code)]

use super::{Asked, Place, Rule};
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
    names: RefCell<BTreeMap<String, Place>>,
    pub(super) sources: RefCell<Vec<String>>,
    pub(super) resources: RefCell<BTreeMap<String, u64>>,
    pub(super) shell: RefCell<String>,
    pub(super) n_anti: Cell<usize>,
    pub(super) asked: RefCell<Asked>,
}

impl Gathered {
    pub(super) fn new(root: PathBuf, env: BTreeMap<String, String>) -> Self {
        Self {
            root,
            env,
            rules: RefCell::default(),
            names: RefCell::default(),
            sources: RefCell::default(),
            resources: RefCell::default(),
            shell: RefCell::new("/bin/sh".to_owned()),
            n_anti: Cell::new(0),
            asked: RefCell::default(),
        }
    }

    pub(super) fn add(&self, rule: Rule) -> Result<(), String> {
        let mut rules = self.rules.borrow_mut();
        let mut names = self.names.borrow_mut();
        if let Some(at) = names.get(&rule.name) {
            return Err(format!("there is a rule {:?} already, at {at}", rule.name));
        }
        names.insert(rule.name.clone(), rule.at.clone());
        rules.push(rule);
        Ok(())
    }
}
