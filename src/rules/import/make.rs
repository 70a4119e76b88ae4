//! Recipes out of what `make -nB --trace` says.
//!
//! Before the commands of a target it says `FILE:LINE: update target 'NAME' due to: DEPS` or
//! `FILE:LINE: target 'NAME' does not exist`.

use super::{Imported, Recipe, depfiles, tidy};

/// What make says of a target that is no file.
const PHONY: &str = "target is .PHONY";
/// What GNU make 4.4 and later say where earlier ones name no reason.
const REASONS: [&str; 3] = [PHONY, "target does not exist", "unknown reasons"];

/// What make said, read.
#[must_use]
pub fn read(text: &str, root: &str) -> Imported {
    let mut imported = Imported::default();
    // Directories that make is in, outermost first, relative to the workspace.
    let mut dirs: Vec<String> = Vec::new();
    let mut open: Option<(Recipe, Vec<String>)> = None;
    let mut continued = false;
    for line in text.lines() {
        let starts_anew = !std::mem::replace(&mut continued, line.ends_with('\\'));
        if starts_anew {
            if let Some(dir) = entered(line) {
                close(open.take(), &dirs, &mut imported);
                dirs.push(relative(dir, root));
                continue;
            }
            if is_message(line, "Leaving directory") {
                close(open.take(), &dirs, &mut imported);
                dirs.pop();
                continue;
            }
            if let Some((target, why)) = target(line) {
                let mut told = REASONS.iter().filter_map(|told| why.strip_prefix(told));
                let deps = told.next().unwrap_or(why);
                close(open.take(), &dirs, &mut imported);
                let dir = dirs.last().map_or("", String::as_str);
                let recipe = Recipe {
                    targets: vec![below(dir, target)],
                    deps: deps.split_whitespace().map(|dep| below(dir, dep)).collect(),
                    phony: why.starts_with(PHONY),
                    ..Recipe::default()
                };
                open = Some((recipe, Vec::new()));
                continue;
            }
            if is_message(line, "") {
                continue;
            }
        }
        let Some((_, lines)) = &mut open else {
            continue;
        };
        match lines.last_mut() {
            Some(last) if !starts_anew => {
                last.push('\n');
                last.push_str(line);
            }
            Some(_) | None => lines.push(line.to_owned()),
        }
    }
    close(open, &dirs, &mut imported);
    imported
}

/// The target of a line that begins one, and what it is newer than.
fn target(line: &str) -> Option<(&str, &str)> {
    let (place, rest) = line.split_once(": ")?;
    let (_, number) = place.rsplit_once(':')?;
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let rest = rest.strip_prefix("update ").unwrap_or(rest);
    let (name, why) = rest.strip_prefix("target '")?.split_once('\'')?;
    match why.strip_prefix(" due to: ") {
        Some(deps) => Some((name, deps)),
        None => (why == " does not exist").then_some((name, "")),
    }
}

/// Whether make says something itself.
pub(super) fn is_message(line: &str, what: &str) -> bool {
    let rest = line.strip_prefix("make").unwrap_or_default();
    let rest = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(_, rest)| rest),
        None => rest,
    };
    rest.strip_prefix(": ")
        .is_some_and(|rest| rest.starts_with(what))
}

pub(super) fn entered(line: &str) -> Option<&str> {
    let is_it = is_message(line, "Entering directory");
    let (_, dir) = line.split_once('\'').filter(|_| is_it)?;
    dir.strip_suffix('\'')
}

pub(super) fn relative(dir: &str, root: &str) -> String {
    let inside = dir.strip_prefix(root.trim_end_matches('/'));
    let inside = inside.filter(|rest| rest.is_empty() || rest.starts_with('/'));
    inside
        .map_or(dir, |rest| rest.trim_start_matches('/'))
        .to_owned()
}

pub(super) fn below(dir: &str, name: &str) -> String {
    match dir.is_empty() || name.starts_with('/') {
        true => tidy(name),
        false => tidy(&format!("{dir}/{name}")),
    }
}

fn close(open: Option<(Recipe, Vec<String>)>, dirs: &[String], imported: &mut Imported) {
    let Some((mut recipe, lines)) = open else {
        return;
    };
    let dir = dirs.last().map_or("", String::as_str);
    // What another make says is below it.
    let lines: Vec<&String> = lines.iter().filter(|line| !is_make(line)).collect();
    if lines.is_empty() {
        recipe.cmd = None;
    } else {
        for line in &lines {
            let more = depfiles(line);
            recipe
                .optional
                .extend(more.iter().map(|name| below(dir, name)));
        }
        let mut commands: Vec<String> = Vec::new();
        if !dir.is_empty() {
            commands.push(format!("cd {}", crate::rules::pattern::quoted(dir)));
        }
        match lines.as_slice() {
            [line] => commands.push((*line).clone()),
            lines => commands.extend(lines.iter().map(|line| format!("( {line}\n)"))),
        }
        recipe.cmd = Some(commands.join(" &&\n"));
    }
    let itself = recipe.targets.clone();
    recipe.deps.retain(|dep| !itself.contains(dep));
    recipe.optional.retain(|name| !itself.contains(name));
    imported.recipes.push(recipe);
}

/// Whether a command does nothing but call make.
fn is_make(line: &str) -> bool {
    let program = line.split_whitespace().next().unwrap_or_default();
    let is_one = !line.contains(['&', '|', ';', '\n']);
    is_one && matches!(program.rsplit('/').next(), Some("make" | "gmake"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_newer_makes_say_is_no_name() {
        let text = "Makefile:1: update target 'a' due to: target does not exist\n\
            touch a\n\
            Makefile:3: update target 'b' due to: unknown reasons\n\
            make -C d && cp d/x b\n";
        let imported = read(text, "/w");
        assert!(imported.recipes.iter().all(|recipe| recipe.deps.is_empty()));
        assert!(!imported.recipes[0].phony);
        let cmd = imported.recipes[1].cmd.as_deref();
        assert_eq!(cmd, Some("make -C d && cp d/x b"));
        assert_eq!(relative("/work", "/w"), "/work");
        assert_eq!(
            (relative("/w/d", "/w/"), relative("/w", "/w")),
            ("d".into(), String::new())
        );
    }

    #[test]
    fn what_make_says_becomes_recipes() {
        let text = "make: Entering directory '/w'\n\
            Makefile:11: target 'h.h' does not exist\n\
            echo >h.h\n\
            Makefile:6: update target 'a.o' due to: a.c h.h\n\
            gcc -MMD -c a.c \\\n -o a.o\n\
            Makefile:3: update target 'prog' due to: a.o\n\
            gcc -o prog a.o\n\
            strip prog\n\
            Makefile:9: target 'sub' does not exist\n\
            make -C d\n\
            make[1]: Entering directory '/w/d'\n\
            Makefile:2: update target 'x' due to: y\n\
            cp y x\n\
            make[1]: Leaving directory '/w/d'\n\
            make: Leaving directory '/w'\n";
        let imported = read(text, "/w");
        let cmd = |n: usize| imported.recipes[n].cmd.as_deref();
        assert_eq!(imported.recipes.len(), 5);
        assert_eq!(cmd(0), Some("echo >h.h"));
        assert_eq!(cmd(1), Some("gcc -MMD -c a.c \\\n -o a.o"));
        assert_eq!(imported.recipes[1].optional, ["a.d"]);
        assert_eq!(imported.recipes[1].deps, ["a.c", "h.h"]);
        assert_eq!(cmd(2), Some("( gcc -o prog a.o\n) &&\n( strip prog\n)"));
        assert_eq!(cmd(3), None);
        assert_eq!(imported.recipes[4].targets, ["d/x"]);
        assert_eq!(imported.recipes[4].deps, ["d/y"]);
        assert_eq!(cmd(4), Some("cd d &&\ncp y x"));
    }
}
