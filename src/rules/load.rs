//! Reads an `Rfsfile` and the files that it loads.

use super::Rules;
use super::builtin;
use super::function::Functions;
use super::gathered::Gathered;
use super::sources::Sources;
use starlark::environment::{FrozenModule, Globals, GlobalsBuilder, LibraryExtension, Module};
use starlark::eval::{Evaluator, FileLoader};
use starlark::syntax::{AstModule, Dialect};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The name of the file at the workspace's root that holds its rules.
pub const RFSFILE: &str = "Rfsfile";

/// What is wrong with the rules, with file, line, column and what stands there.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub String);

/// What a reading of the rules is given.
#[derive(Debug)]
pub struct Inputs {
    /// The workspace.
    pub root: PathBuf,
    /// The user's environment; what is asked of it becomes part of the rules.
    pub env: BTreeMap<String, String>,
}

/// The ready rules that come with the program, by the name after `@rfs//`.
const LIBRARY: [(&str, &str); 6] = [
    ("archive.star", include_str!("library/archive.star")),
    ("c.star", include_str!("library/c.star")),
    ("latex.star", include_str!("library/latex.star")),
    ("python.star", include_str!("library/python.star")),
    ("rust.star", include_str!("library/rust.star")),
    ("tests.star", include_str!("library/tests.star")),
];

/// Reads the rules of a workspace.
///
/// # Errors
/// The first mistake in them.
pub fn load(inputs: &Inputs) -> Result<Rules, Error> {
    let gathered = Gathered::new(inputs.root.clone(), Arc::new(inputs.env.clone()));
    let loader = Loader {
        root: &inputs.root,
        globals: globals(),
        gathered: &gathered,
        loaded: RefCell::default(),
        loading: RefCell::default(),
    };
    loader.load(RFSFILE).map_err(|error| Error(text(&error)))?;
    let rules = gathered.rules.take();
    let sources = Sources::new(&gathered.sources.take()).map_err(Error)?;
    let shell = gathered.shell.take();
    let mut rules = Rules::new(rules, sources, gathered.resources.take(), shell).map_err(Error)?;
    rules.functions = Functions::new(&gathered);
    Ok(rules)
}

/// A message with its snippet, without the name of its kind.
pub(super) fn text(error: &starlark::Error) -> String {
    let text = format!("{error}");
    text.strip_prefix("error: ").unwrap_or(&text).to_owned()
}

fn globals() -> Globals {
    let extensions = [
        LibraryExtension::StructType,
        LibraryExtension::Map,
        LibraryExtension::Filter,
        LibraryExtension::Json,
    ];
    GlobalsBuilder::extended_by(&extensions)
        .with(builtin::functions)
        .build()
}

struct Loader<'a> {
    root: &'a Path,
    globals: Globals,
    gathered: &'a Gathered,
    loaded: RefCell<HashMap<String, FrozenModule>>,
    /// Files whose loading has not ended, outermost first.
    loading: RefCell<Vec<String>>,
}

impl Loader<'_> {
    fn source(&self, name: &str) -> starlark::Result<String> {
        if let Some(ready) = name.strip_prefix("@rfs//") {
            let found = LIBRARY.iter().find(|(known, _)| *known == ready);
            return match found {
                Some((_, text)) => Ok((*text).to_owned()),
                None => {
                    let names: Vec<String> = LIBRARY
                        .iter()
                        .map(|(name, _)| format!("@rfs//{name}"))
                        .collect();
                    Err(other(format!(
                        "no {name} in the library: there is {}",
                        names.join(", ")
                    )))
                }
            };
        }
        let path = self.root.join(name.trim_start_matches("//"));
        self.gathered.asked.borrow_mut().file(&path);
        std::fs::read_to_string(&path)
            .map_err(|error| other(format!("{}: {error}", path.display())))
    }
}

/// An error in words.
pub(super) fn other(text: String) -> starlark::Error {
    starlark::Error::new_other(Error(text))
}

impl FileLoader for Loader<'_> {
    fn load(&self, name: &str) -> starlark::Result<FrozenModule> {
        if let Some(module) = self.loaded.borrow().get(name) {
            return Ok(module.clone());
        }
        if self.loading.borrow().iter().any(|open| open == name) {
            let chain = self.loading.borrow().join(" -> ");
            return Err(other(format!("files load each other: {chain} -> {name}")));
        }
        let source = self.source(name)?;
        self.loading.borrow_mut().push(name.to_owned());
        let dialect = Dialect {
            enable_top_level_stmt: true,
            enable_f_strings: true,
            enable_keyword_only_arguments: true,
            ..Dialect::Standard
        };
        let ast = AstModule::parse(name, source, &dialect)?;
        let module = Module::new();
        {
            let mut evaluator = Evaluator::new(&module);
            evaluator.set_loader(self);
            evaluator.extra = Some(self.gathered);
            evaluator.eval_module(ast, &self.globals)?;
        }
        let module = module.freeze()?;
        self.gathered.take_functions(&module);
        self.loading.borrow_mut().pop();
        self.loaded
            .borrow_mut()
            .insert(name.to_owned(), module.clone());
        Ok(module)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "makes the files of the tests")]
mod tests {
    use super::*;
    use std::fs;

    fn rules(text: &str) -> Result<Rules, String> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(RFSFILE), text).unwrap();
        fs::write(
            dir.path().join("more.star"),
            "def shout(s): return s.upper()\n",
        )
        .unwrap();
        fs::write(dir.path().join("a.c"), "").unwrap();
        let inputs = Inputs {
            root: dir.path().to_owned(),
            env: BTreeMap::from([("CC".to_owned(), "clang".to_owned())]),
        };
        load(&inputs).map_err(|error| error.to_string())
    }

    #[test]
    fn a_rule_gives_jobs() {
        let rules = rules(
            "load('//more.star', 'shout')\n\
             rule('compile', targets={'OBJ': 'obj/{n}.o'}, deps=['src/{n}.c'],\n\
             \x20    cmd='%s -o {OBJ} {dep} # {{}} ' % env('CC', 'cc') + shout('x') + ' '.join(glob('*.c')))\n",
        )
        .unwrap();
        let found = rules.candidates("obj/a b.o");
        let spec = rules.spec(found[0][0].rule, &found[0][0].stems);
        assert_eq!(spec.title, "compile obj/a b.o");
        assert_eq!(spec.deps[0].name, "src/a b.c");
        assert_eq!(spec.argv[2], "clang -o 'obj/a b.o' 'src/a b.c' # {} Xa.c");
        assert!(rules.candidates("obj/x/y.o").is_empty() && !rules.recognise("src/a.c"));
    }

    #[test]
    fn priorities_make_groups_and_anti_rules_end_them() {
        let rules = rules(
            "rule('low', targets='{f}', cmd='l', priority=-1)\n\
             rule('b', targets='{f:.*}x', cmd='b')\n\
             rule('a', targets='{f}.x', cmd='a')\n\
             anti_rule('{f}.no', priority=1)\n",
        )
        .unwrap();
        let names = |name: &str| -> Vec<Vec<String>> {
            let groups = rules.candidates(name);
            let name = |c: &crate::rules::Candidate| rules.rule(c.rule).name.clone();
            groups
                .iter()
                .map(|group| group.iter().map(name).collect())
                .collect()
        };
        assert_eq!(names("q.x"), [vec!["b", "a"], vec!["low"]]);
        assert!(names("q.no").is_empty());
    }

    #[test]
    fn mistakes_have_a_place_and_a_remedy() {
        for (text, told) in [
            (
                "rule('r', targets='{n}.o', deps=['{m}.c'], cmd='x')",
                "Rfsfile:1:1",
            ),
            (
                "rule('r', targets='{name}.o', cmd='cc {nam}')",
                "did you mean \"name\"",
            ),
            ("rule('r', targets='{n', cmd='x')", "never closed"),
            ("\n\nrule('r', target='x', cmd='x')", "Rfsfile:3"),
            (
                "rule('r', targets='x', cmd='x')\nrule('r', targets='y', cmd='x')",
                "Rfsfile:1:1",
            ),
            ("rule('r', targets=['{a}.x', 'y'], cmd='x')", "every stem"),
            ("x = ", "Rfsfile:1"),
            ("load('//gone.star', 'x')", "gone.star"),
            (
                "rule('r', targets='a', cmd='x', environ={'A': 1})",
                "environ",
            ),
        ] {
            let error = rules(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
