//! A machine as an SVG picture: boxes in boxes, as lstopo draws them.

use super::label;
use crate::base::topology::{Kind, Machine, Object};
use std::fmt::Write;

const LINE: usize = 16;
const GAP: usize = 6;
/// An estimate of a character's width at the font's size.
const CHARACTER: usize = 7;
/// More boxes than this side by side go on in another row.
const ROW: usize = 8;

/// A box with its boxes inside, relative to its own corner.
struct Drawn {
    kind: Kind,
    label: String,
    usable: bool,
    width: usize,
    height: usize,
    inside: Vec<(usize, usize, Self)>,
}

/// The whole document.
#[must_use]
pub fn svg(machine: &Machine) -> String {
    let drawn = draw(&machine.root, machine);
    let (width, height) = (drawn.width + 2 * GAP, drawn.height + 2 * GAP);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    write_box(&mut out, &drawn, GAP, GAP);
    out.push_str("</svg>\n");
    out
}

fn draw(object: &Object, machine: &Machine) -> Drawn {
    let label = label(object);
    let mut width = label.len() * CHARACTER + 2 * GAP;
    let mut inside = Vec::new();
    let mut y = LINE + GAP;
    for group in [&object.memory, &object.children, &object.devices] {
        for row in group.chunks(ROW) {
            let (mut x, mut tallest) = (GAP, 0);
            for below in row {
                let drawn = draw(below, machine);
                tallest = tallest.max(drawn.height);
                let right = x + drawn.width + GAP;
                inside.push((x, y, drawn));
                x = right;
            }
            width = width.max(x);
            y += tallest + GAP;
        }
    }
    Drawn {
        kind: object.kind,
        label,
        usable: object.cpus.is_empty() || object.cpus.meets(&machine.allowed),
        width,
        height: y,
        inside,
    }
}

fn write_box(out: &mut String, drawn: &Drawn, x: usize, y: usize) {
    let fill = if drawn.usable {
        color(drawn.kind)
    } else {
        "#e08080"
    };
    let Drawn { width, height, .. } = drawn;
    let (text_x, text_y) = (x + GAP, y + LINE);
    let text = escape(&drawn.label);
    let _infallible = writeln!(
        out,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{fill}\" \
         stroke=\"#404040\"/><text x=\"{text_x}\" y=\"{text_y}\">{text}</text>"
    );
    for (dx, dy, below) in &drawn.inside {
        write_box(out, below, x + dx, y + dy);
    }
}

fn color(kind: Kind) -> &'static str {
    match kind {
        Kind::Package => "#dddddd",
        Kind::Die | Kind::Group => "#eeeeee",
        Kind::Core => "#bebebe",
        Kind::Numa | Kind::MemoryCache => "#efdfde",
        Kind::Bridge | Kind::Pci => "#dbdfbe",
        Kind::Storage | Kind::Gpu | Kind::Network | Kind::Fabric | Kind::Accelerator => "#dedede",
        Kind::Machine | Kind::Cache(_) | Kind::InstructionCache(_) | Kind::Pu | Kind::Other => {
            "#ffffff"
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
