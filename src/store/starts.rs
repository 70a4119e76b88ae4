//! What the steps of a build were given beside their commands: most of it is the same for all of them.

use crate::base::Start;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};

/// What the steps of a build were given: words that many share, and each step's by their numbers.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Starts {
    words: Vec<Vec<u8>>,
    /// By number of the step: how many of its words are of the environment, and its words.
    of: BTreeMap<u32, (u32, Vec<u32>)>,
}

impl Starts {
    /// Adds what a step was given. `known`: numbers of the words that are there.
    pub(super) fn add(&mut self, step: u32, start: &Start, known: &mut HashMap<Vec<u8>, u32>) {
        let env = start.env.iter().map(Vec::as_slice);
        let around = start.around.iter().map(String::as_bytes);
        let mut numbers = Vec::with_capacity(start.env.len() + start.around.len());
        for word in env.chain(around) {
            let number = known.get(word).copied().unwrap_or_else(|| {
                let number = u32::try_from(self.words.len()).unwrap_or(u32::MAX);
                self.words.push(word.to_vec());
                known.insert(word.to_vec(), number);
                number
            });
            numbers.push(number);
        }
        let n_env = u32::try_from(start.env.len()).unwrap_or(u32::MAX);
        self.of.insert(step, (n_env, numbers));
    }

    /// Leaves out the environments.
    pub(super) fn forget_environment(&mut self) {
        let mut needed = HashSet::new();
        for (n_env, numbers) in self.of.values_mut() {
            let around = numbers.split_off(numbers.len().min(*n_env as usize));
            (*n_env, *numbers) = (0, around);
            needed.extend(numbers.iter().copied());
        }
        for (number, word) in (0..).zip(&mut self.words) {
            if !needed.contains(&number) {
                word.clear();
            }
        }
    }

    /// What a step was given; none if that is not known.
    pub(super) fn get(&self, step: u32) -> Option<Start> {
        let (n_env, numbers) = self.of.get(&step)?;
        let word = |number: &u32| self.words.get(*number as usize).cloned();
        let mut env: Vec<Vec<u8>> = numbers.iter().map(word).collect::<Option<_>>()?;
        let around = env.split_off(env.len().min(*n_env as usize));
        let around = around
            .iter()
            .map(|word| String::from_utf8_lossy(word).into_owned());
        Some(Start {
            around: around.collect(),
            env,
        })
    }
}
