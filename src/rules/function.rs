//! Attributes of rules that are functions of the language: called for each job with what is known of it.
//!
//! What they ask of environment and tree is noted with what the rules have asked: as long as the answers are
//! the same, so is what they give.

use super::Asked;
use super::gathered::Gathered;
use starlark::environment::{FrozenModule, Module};
use starlark::eval::Evaluator;
use starlark::values::structs::AllocStruct;
use starlark::values::{OwnedFrozenValue, Value};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// An attribute that may be a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attribute {
    /// Static deps.
    Deps,
    /// What is run.
    Cmd,
    /// The environment.
    Environ,
    /// How long it may take.
    Timeout,
    /// How often it is run again.
    Retries,
    /// Whether it may print to standard error.
    StderrOk,
    /// What it needs of resources.
    Resources,
}

/// A function, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FunctionId(usize);

/// What a function is told of a job.
#[derive(Debug, Clone)]
pub(super) enum Field {
    Text(String),
    List(Vec<String>),
    Map(BTreeMap<String, String>),
}

/// All functions of the rules, and what they may ask.
#[derive(Debug, Default)]
pub(super) struct Functions {
    root: PathBuf,
    env: Arc<BTreeMap<String, String>>,
    all: Vec<OwnedFrozenValue>,
    asked: Mutex<Asked>,
}

impl Gathered {
    /// Keeps a function that is an attribute of a rule.
    pub(super) fn keep<'v>(&self, module: &'v Module, function: Value<'v>) -> FunctionId {
        let mut functions = self.functions.borrow_mut();
        let id = FunctionId(functions.len());
        functions.push(None);
        // Values live on in what is left of the module that made them.
        module.set(&name(id), function);
        id
    }

    /// Takes the functions out of a module that was read.
    pub(super) fn take_functions(&self, module: &FrozenModule) {
        for (at, slot) in self.functions.borrow_mut().iter_mut().enumerate() {
            if slot.is_none() {
                *slot = module.get_option(&name(FunctionId(at))).ok().flatten();
            }
        }
    }
}

fn name(id: FunctionId) -> String {
    format!("rfs function {}", id.0)
}

impl Functions {
    pub(super) fn new(gathered: &Gathered) -> Self {
        Self {
            root: gathered.root.clone(),
            env: gathered.env.clone(),
            all: gathered
                .functions
                .take()
                .into_iter()
                .map(Option::unwrap_or_default)
                .collect(),
            asked: Mutex::new(gathered.asked.take()),
        }
    }

    /// What rules and functions have asked.
    pub(super) fn asked(&self) -> Asked {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.clone()
    }

    /// Calls a function with a struct of these fields. `read` makes of what it gives what is wanted, and
    /// `makes` says whether a rule makes a file: such a one cannot be read before.
    ///
    /// # Errors
    /// What went wrong, with its place.
    pub(super) fn call<T>(
        &self,
        id: FunctionId,
        fields: Vec<(String, Field)>,
        makes: impl Fn(&str) -> bool,
        read: impl FnOnce(Value<'_>) -> Result<T, String>,
    ) -> Result<T, String> {
        let function = self.all.get(id.0).ok_or("there is no such function")?;
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let gathered = Gathered::of_job(self.root.clone(), self.env.clone());
        gathered.asked.replace(std::mem::take(&mut *asked));
        let module = Module::new();
        let given = {
            let mut eval = Evaluator::new(&module);
            eval.extra = Some(&gathered);
            let heap = module.heap();
            let fields = fields.into_iter().map(|(name, field)| {
                let value = match field {
                    Field::Text(text) => heap.alloc(text),
                    Field::List(list) => heap.alloc(list),
                    Field::Map(map) => heap.alloc(starlark::values::dict::AllocDict(map)),
                };
                (name, value)
            });
            let job = heap.alloc(AllocStruct(fields.collect::<Vec<_>>()));
            let function = function.owned_value(module.frozen_heap());
            let given = eval.eval_function(function, &[job], &[]);
            given
                .map_err(|error| super::load::text(&error))
                .and_then(read)
        };
        let names = gathered.read.take();
        *asked = gathered.asked.take();
        match names.into_iter().find(|name| makes(name)) {
            Some(name) => Err(format!(
                "a function reads {name}, which a rule makes: let the command read it"
            )),
            None => given,
        }
    }
}
