//! Small stories, each of one way to look at the world or to change it that a cache can miss.
//! Most were wrong in at least one of the peers.

pub mod content;
pub mod effect;
pub mod lookup;
pub mod name;
pub mod output;
pub mod process;
pub mod world;

use crate::space::TestSpace;

/// Makes a test of each function that returns a `Probe`.
macro_rules! tests {
    ($($(#[$doc:meta])* $name:ident)*) => {
        #[cfg(test)]
        mod tests {
            $($(#[$doc])* #[test] fn $name() {
                super::$name().run(crate::space::Setting::default());
            })*
        }
    };
}
pub(crate) use tests;

/// Compiles a C program of the test's own, by a compiler that is not under test.
pub fn compile(space: &TestSpace, name: &str, flags: &str, source: &str) {
    space.write(format!("{name}.c"), source);
    space.must(format!("gcc -O1 {flags} -o {name} {name}.c").as_str());
}
