//! Whether a job that has ended did what its rule says. Pure: the same for a record of today and an old one.

use crate::base::{Chunk, Record, What};
use crate::rules::{Rule, Sources, Spec, Target};

/// The names of the workspace that a record says are there afterwards.
pub(super) fn outputs(record: &Record) -> impl Iterator<Item = &str> {
    record
        .outputs
        .iter()
        .filter(|output| match output.what {
            What::Absent | What::Dir(_) | What::Attributes(_) => false,
            What::File { .. } | What::Link(_) | What::Fifo(_) | What::HardLink(_) => true,
        })
        .filter(|output| output.name.inside())
        .filter_map(|output| output.name.as_path().to_str())
}

/// What a job has made, given its exit status, what it printed, and the names that are there afterwards.
///
/// # Errors
/// Why it failed, with a remedy where there is one.
pub(super) fn judge(
    (rule, sources): (&Rule, &Sources),
    spec: &Spec,
    status: i32,
    chunks: &[Chunk],
    made: &[&str],
) -> Result<Vec<String>, String> {
    if status != 0 {
        return Err(format!("exit status {status}"));
    }
    if !spec.limits.stderr_ok
        && chunks
            .iter()
            .any(|chunk| chunk.fd == 2 && !chunk.bytes.is_empty())
    {
        return Err(
            "it printed to standard error, and its rule says `stderr_ok = False`".to_owned(),
        );
    }
    let strangers: Vec<&str> = made
        .iter()
        .copied()
        .filter(|name| spec.target(name).is_none() && !spec.ignores(name))
        .collect();
    if !strangers.is_empty() {
        return Err(undeclared(rule, &strangers));
    }
    let overwritten = made.iter().find(|name| {
        let flags = spec.target(name).map(Target::flags);
        sources.names(name) && flags.is_some_and(|flags| !flags.source_ok)
    });
    if let Some(name) = overwritten {
        return Err(format!(
            "it wrote {name}, which is a source\n  if that is right, write `target(..., source_ok = True)` in \
             the rule at {}",
            rule.at
        ));
    }
    let mut targets: Vec<String> = made.iter().map(|name| (*name).to_owned()).collect();
    targets.retain(|name| !spec.ignores(name));
    for target in &spec.targets {
        let Target::File(name, flags) = target else {
            continue;
        };
        if made.contains(&name.as_str()) || flags.optional {
            continue;
        }
        if flags.phony {
            targets.push(name.clone());
            continue;
        }
        return Err(format!(
            "it did not make {name}\n  if that is right, write `target({:?}, optional = True)` in the \
             rule at {}",
            name, rule.at
        ));
    }
    Ok(targets)
}

/// What to say of files that a job may not write.
fn undeclared(rule: &Rule, names: &[&str]) -> String {
    let list: String = names.iter().map(|name| format!("\n  {name}")).collect();
    let fix: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    format!(
        "it wrote what is no target of it:{list}\n  add to `targets` of the rule at {}: {}",
        rule.at,
        fix.join(", ")
    )
}
