//! Sources that ask the compiler for the time. The compiler reads the clock where nobody can see it
//! (vdso(7)), but the source that makes it do so can be seen.

use super::Watch;
use super::model::Model;
use crate::base::{Access, Kind};
use crate::world::Look;
use std::path::Path;

/// Larger sources are not searched.
const MAX_SOURCE: u64 = 16 << 20;

/// Programs that expand the macros.
const COMPILERS: [&str; 8] = [
    "cc1", "cc1plus", "cc1obj", "cpp", "clang", "clang++", "tcc", "f951",
];

/// What a source holds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Macros {
    date: bool,
    stamp: bool,
}

impl Watch {
    /// A compiler opens a file of the workspace for reading.
    pub(super) fn source(
        &self,
        model: &mut Model,
        at: usize,
        tool: &str,
        path: &Path,
        look: &Look,
    ) {
        let source = look.seen.kind == Kind::File && look.seen.id.size <= MAX_SOURCE;
        if !source || !COMPILERS.contains(&tool) || !path.starts_with(self.world.root()) {
            return;
        }
        let known = model.macros.get(&(look.id, look.seen.id)).copied();
        let found = known.unwrap_or_else(|| search(path));
        model.macros.insert((look.id, look.seen.id), found);
        if found.date {
            let how = format!("the clock (__DATE__ or __TIME__ in {})", path.display());
            self.chance_at(model, at, &how);
        }
        if found.stamp {
            // `__TIMESTAMP__` is the file's own time of modification.
            self.note(model, at, path, look, Access::MTIME);
        }
    }
}

fn search(path: &Path) -> Macros {
    let text = std::fs::read(path).unwrap_or_default();
    let has = |word: &[u8]| text.windows(word.len()).any(|at| at == word);
    if !has(b"__TIME") && !has(b"__DATE__") {
        return Macros::default();
    }
    Macros {
        date: has(b"__DATE__") || has(b"__TIME__"),
        stamp: has(b"__TIMESTAMP__"),
    }
}
