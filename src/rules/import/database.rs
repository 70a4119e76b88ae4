//! What `make -pn` says of its targets: what each depends on, with what pattern rules and included depfiles add.
//!
//! A data base is printed by each make, while it is in its directory.

use super::make::{below, entered, is_message, relative};
use super::{Imported, Recipe};

/// What make printed, read. A recipe has no command but a mark that there is one.
#[must_use]
pub fn read(text: &str, root: &str) -> Imported {
    let mut imported = Imported::default();
    let mut dirs: Vec<String> = Vec::new();
    let mut in_files = false;
    let mut is_target = true;
    let mut phony: Vec<String> = Vec::new();
    let mut open: Option<Recipe> = None;
    for line in text.lines() {
        // What make says itself is a comment in what it prints.
        let message = line.strip_prefix("# ").unwrap_or(line);
        if let Some(dir) = entered(message) {
            dirs.push(relative(dir, root));
        } else if is_message(message, "Leaving directory") {
            dirs.pop();
        } else if line == "# Files" {
            in_files = true;
        } else if line.starts_with("# files hash-table") || line.starts_with("# Finished Make") {
            imported.recipes.extend(open.take());
            in_files = false;
        } else if !in_files {
            continue;
        } else if line.is_empty() {
            imported.recipes.extend(open.take());
            is_target = true;
        } else if line == "# Not a target:" {
            is_target = false;
        } else if let Some(recipe) = open.as_mut().filter(|_| line.starts_with('\t')) {
            recipe.cmd = Some(String::new());
        } else if let Some((target, deps)) = line.split_once(':').filter(|_| is_target) {
            if line.starts_with(['#', '\t', ' ']) || deps.starts_with('=') {
                continue;
            }
            let dir = dirs.last().map_or("", String::as_str);
            let deps = deps.trim_start_matches(':');
            let (normal, order) = deps.split_once('|').unwrap_or((deps, ""));
            let names = |text: &str| -> Vec<String> {
                text.split_whitespace()
                    .map(|name| below(dir, name))
                    .collect()
            };
            if target == ".PHONY" {
                phony.extend(names(normal));
                continue;
            }
            open = Some(Recipe {
                targets: vec![below(dir, target)],
                deps: names(&format!("{normal} {order}")),
                order: names(order),
                ..Recipe::default()
            });
        }
    }
    imported.recipes.extend(open);
    for recipe in &mut imported.recipes {
        recipe.phony = recipe.targets.iter().all(|target| phony.contains(target));
    }
    imported
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "make: Entering directory '/w'\n# Make data base, printed on Sat\n# Variables\n\
        a := b:c\n# Files\n# Not a target:\na.c:\n#  Implicit rule search has been done.\n\n\
        app: a.o b.o | dir\n#  recipe to execute (from 'Makefile', line 2):\n\tcat a.o b.o > app\n\n\
        .PHONY: all\n\nall: app\n#  Phony target\n\n# files hash-table stats:\n\
        # Finished Make data base on Sat\n# make[1]: Entering directory '/w/s'\n# Files\n\n\
        x.o: ../y.h x.c\n\tcc\n\n# files hash-table stats:\n# make[1]: Leaving directory '/w/s'\n";

    #[test]
    fn what_depends_on_what_is_read() {
        let imported = read(TEXT, "/w");
        let told: Vec<_> = imported
            .recipes
            .iter()
            .map(|one| {
                (
                    one.targets[0].as_str(),
                    one.deps.join(" "),
                    one.phony,
                    one.cmd.is_some(),
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("app", "a.o b.o dir".to_owned(), false, true),
                ("all", "app".to_owned(), true, false),
                ("s/x.o", "y.h s/x.c".to_owned(), false, true),
            ]
        );
        assert_eq!(imported.recipes[0].order, ["dir"]);
    }
}
