//! What the functions of an `Rfsfile` have gathered, kept where the interpreter can find it.
//!
//! One of the listed files with unsafe code: the interpreter's own derivation, and nothing else.
#![allow(unsafe_code)]

use super::{Asked, Place, Rule};
use starlark::any::ProvidesStaticType;
use starlark::values::OwnedFrozenValue;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// What the functions have gathered so far.
#[derive(Debug, ProvidesStaticType)]
pub(super) struct Gathered {
    pub(super) root: PathBuf,
    pub(super) env: Arc<BTreeMap<String, String>>,
    pub(super) rules: RefCell<Vec<Rule>>,
    names: RefCell<BTreeMap<String, Place>>,
    pub(super) sources: RefCell<Vec<String>>,
    pub(super) resources: RefCell<BTreeMap<String, u64>>,
    pub(super) shell: RefCell<String>,
    pub(super) n_anti: Cell<usize>,
    pub(super) asked: RefCell<Asked>,
    /// Attributes of rules that are functions, once the file that has them was read.
    pub(super) functions: RefCell<Vec<Option<OwnedFrozenValue>>>,
    /// Files that functions have read for a job.
    pub(super) read: RefCell<Vec<String>>,
    /// All has been read, and a function is called for a job.
    of_job: bool,
}

impl Gathered {
    pub(super) fn new(root: PathBuf, env: Arc<BTreeMap<String, String>>) -> Self {
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
            functions: RefCell::default(),
            read: RefCell::default(),
            of_job: false,
        }
    }

    /// For a function that is called for a job: it may ask, and add nothing.
    pub(super) fn of_job(root: PathBuf, env: Arc<BTreeMap<String, String>>) -> Self {
        Self {
            of_job: true,
            ..Self::new(root, env)
        }
    }

    /// Whether rules can still be added.
    ///
    /// # Errors
    /// They cannot.
    pub(super) fn is_open(&self) -> Result<(), String> {
        match self.of_job {
            true => Err("a function of a rule can only ask, not say what there is".to_owned()),
            false => Ok(()),
        }
    }

    pub(super) fn add(&self, rule: Rule) -> Result<(), String> {
        self.is_open()?;
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
