//! A graph as a picture: files and steps in columns by how much has to be done before them.

use super::graph::Graph;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Room of a column and of a line, in pixels.
const COLUMN: usize = 300;
const LINE: usize = 26;
/// Characters of a label.
const LONGEST: usize = 36;

struct Mark<'a> {
    label: &'a str,
    is_step: bool,
    column: usize,
    line: usize,
}

/// The picture, in one file that needs no other one.
pub(super) fn draw(graph: &Graph) -> String {
    let mut boxes: Vec<Mark<'_>> = Vec::new();
    let mut files: BTreeMap<&str, usize> = BTreeMap::new();
    let mut lines: Vec<(usize, usize)> = Vec::new();
    // Who starts later has the greater number, so that what a step reads is there before it.
    for step in &graph.steps {
        let mut column = 0;
        let mut inputs = Vec::new();
        for name in &step.inputs {
            let file = *files.entry(name).or_insert_with(|| {
                boxes.push(Mark {
                    label: name,
                    is_step: false,
                    column: 0,
                    line: 0,
                });
                boxes.len() - 1
            });
            column = column.max(boxes[file].column);
            inputs.push(file);
        }
        boxes.push(Mark {
            label: &step.command,
            is_step: true,
            column: column + 1,
            line: 0,
        });
        let this = boxes.len() - 1;
        lines.extend(inputs.into_iter().map(|file| (file, this)));
        for name in &step.outputs {
            let file = *files.entry(name).or_insert_with(|| {
                boxes.push(Mark {
                    label: name,
                    is_step: false,
                    column: column + 2,
                    line: 0,
                });
                boxes.len() - 1
            });
            lines.push((this, file));
        }
    }
    let n_lines = arrange(&mut boxes, &lines);
    let n_columns = boxes.iter().map(|one| one.column + 1).max().unwrap_or(1);
    let (width, height) = (n_columns * COLUMN, (n_lines + 1) * LINE);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"monospace\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <g fill=\"none\" stroke=\"#aaa\">\n"
    );
    let wide = COLUMN - 40;
    let place = |one: &Mark<'_>| (10 + one.column * COLUMN, LINE / 2 + one.line * LINE);
    for (from, to) in &lines {
        let ((x1, y1), (x2, y2)) = (place(&boxes[*from]), place(&boxes[*to]));
        let (x1, y1, y2) = (x1 + wide, y1 + 9, y2 + 9);
        let middle = usize::midpoint(x1, x2);
        let _infallible = writeln!(
            svg,
            "<path d=\"M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}\"/>"
        );
    }
    svg.push_str("</g>\n");
    for one in &boxes {
        let (x, y) = place(one);
        let fill = if one.is_step { "#dde8f8" } else { "#fff" };
        let round = if one.is_step { 2 } else { 9 };
        let _infallible = writeln!(
            svg,
            "<g><title>{}</title><rect x=\"{x}\" y=\"{y}\" width=\"{wide}\" height=\"18\" rx=\"{round}\" \
             fill=\"{fill}\" stroke=\"#567\"/><text x=\"{}\" y=\"{}\">{}</text></g>",
            escaped(one.label),
            x + 6,
            y + 13,
            escaped(&short(one.label, one.is_step)),
        );
    }
    svg.push_str("</svg>");
    svg
}

/// Gives each box a line of its column, near those that it comes from. Gives the lines of the longest column.
fn arrange(boxes: &mut [Mark<'_>], lines: &[(usize, usize)]) -> usize {
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); boxes.len()];
    for (from, to) in lines {
        before[*to].push(*from);
    }
    let mut columns: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (at, one) in boxes.iter().enumerate() {
        columns.entry(one.column).or_default().push(at);
    }
    let mut most = 0;
    for members in columns.values_mut() {
        let near = |at: &usize| {
            let lines: Vec<usize> = before[*at].iter().map(|from| boxes[*from].line).collect();
            lines.iter().sum::<usize>() * 16 / lines.len().max(1)
        };
        members.sort_by_cached_key(|at| (near(at), *at));
        for (line, at) in members.iter().enumerate() {
            boxes[*at].line = line;
        }
        most = most.max(members.len());
    }
    most
}

/// The start of a command, the end of a path.
fn short(label: &str, is_step: bool) -> String {
    let n_chars = label.chars().count();
    if n_chars <= LONGEST {
        label.to_owned()
    } else if is_step {
        let start: String = label.chars().take(LONGEST - 3).collect();
        format!("{start}...")
    } else {
        let end: String = label.chars().skip(n_chars - LONGEST + 3).collect();
        format!("...{end}")
    }
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let text = text.replace('>', "&gt;").replace('"', "&quot;");
    // XML has no other control characters.
    text.replace(|c: char| c.is_control(), " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::graph::Vertex;

    #[test]
    fn what_needs_more_is_further_right() {
        let step = |step, command: &str, inputs: &[&str], outputs: &[&str]| Vertex {
            step,
            command: command.to_owned(),
            inputs: inputs.iter().map(|name| (*name).into()).collect(),
            outputs: outputs.iter().map(|name| (*name).into()).collect(),
        };
        let long = "x".repeat(50);
        let graph = Graph::of(
            1,
            vec![
                step(1, "gen <a> & \"b\"", &["in"], &["h"]),
                step(2, &long, &["h", "c"], &["o"]),
            ],
        );
        let svg = draw(&graph);
        let x = |label: &str| -> usize {
            let at = svg.find(&format!("<title>{label}</title>")).unwrap();
            let rest = &svg[at..];
            let at = rest.find("x=\"").unwrap() + 3;
            rest[at..].split('"').next().unwrap().parse().unwrap()
        };
        let order = [
            x("in"),
            x("gen &lt;a&gt; &amp; &quot;b&quot;"),
            x("h"),
            x(&long),
            x("o"),
        ];
        assert!(order.is_sorted_by(|one, next| one < next), "{order:?}");
        assert_eq!(x("c"), x("in"));
        assert!(svg.contains(&format!(">{}...</text>", &long[..LONGEST - 3])));
        assert_eq!(svg.matches("<path").count(), 5);
    }
}
