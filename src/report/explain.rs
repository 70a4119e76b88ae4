//! One line a step: served, run because of what, refused because of what.

use super::{Step, Verdict, duration};
use crate::base::Held;
use std::time::Duration;

/// The line of a step, without its line end.
#[must_use]
pub fn line(step: &Step) -> String {
    let title = plain(&step.title);
    let mut line = match &step.verdict {
        Verdict::Hit => format!("hit  {title}"),
        Verdict::Ran(miss) => format!("ran  {title}: because {}", plain(&miss.to_string())),
        Verdict::Refused(why) => format!("refused  {title}: {}", plain(&why.to_string())),
    };
    if let Some(held) = &step.held {
        line.push_str(&format!("; {}", waited(held)));
    }
    for note in &step.notes {
        line.push_str("; note: ");
        line.push_str(&plain(note));
    }
    line
}

/// The lines of all steps, in order of start.
#[must_use]
pub fn lines(steps: &[Step]) -> Vec<String> {
    let mut order: Vec<&Step> = steps.iter().collect();
    order.sort_by_key(|step| step.number);
    order.into_iter().map(line).collect()
}

/// What a step had to wait for: `held 1.2 s by cpu pressure`.
pub(super) fn waited(held: &Held) -> String {
    let time = duration::text(Duration::from_micros(held.held_us));
    format!("held {time} by {}", held.held_by)
}

/// A text in one line: control characters would break it or drive the terminal.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Cause, Change, Miss, Name, Refusal};
    use std::path::Path;

    #[test]
    fn lines_come_in_order_of_start() {
        let header = Name::of(Path::new("/w/a.h"), Path::new("/w"));
        let steps = [
            Step::of(
                2,
                "curl",
                Verdict::Refused(Refusal("uses the network".into())),
            ),
            Step::of(
                0,
                "make",
                Verdict::Ran(Miss::Changed(Box::new(Cause::of(header, Change::Content)))),
            ),
            Step::of(1, "cc -c a.c", Verdict::Hit),
        ];
        assert_eq!(
            lines(&steps),
            [
                "ran  make: because a.h changed (content)",
                "hit  cc -c a.c",
                "refused  curl: uses the network",
            ]
        );
    }

    #[test]
    fn a_step_has_one_line_whatever_its_arguments() {
        let mut odd = Step::of(0, "sh -c a\nb\x1b[2J", Verdict::Hit);
        odd.notes = vec!["uses the clock (date)".into()];
        odd.held = Some(Held {
            held_us: 1_200_000,
            held_by: "memory, io pressure".into(),
        });
        assert_eq!(
            line(&odd),
            "hit  sh -c a\\nb\\u{1b}[2J; held 1.2 s by memory, io pressure; note: uses the clock (date)"
        );
    }
}
