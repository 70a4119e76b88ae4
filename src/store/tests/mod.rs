//! The store against everything that can happen to a file.

mod crash;
mod damage;
mod forge;
mod graph;
mod history;
mod kill;
mod pages;
mod random;
mod tables;

pub(crate) use forge::forge;
