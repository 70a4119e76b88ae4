//! Live progress on a terminal: a line where the build is silent, and the terminal's own indicator (OSC 9;4).
//!
//! The terminal is the command's. Nothing is drawn but by who asked for it (`--progress`), while nothing was
//! printed for a while, after a whole line, with the terminal as the command found it, and in the foreground. What
//! the build is about to print is told before it is printed, and takes the line away first. Where it
//! may print without that being told, or moves the cursor about, nothing is drawn any more.

use super::{place, signals};
use crate::query::forecast;
use crate::report::progress::Progress;
use crate::report::{Live, Verdict};
use crate::runner::STATE;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use rustix::termios::{Termios, tcgetattr, tcgetpgrp, tcgetwinsize};
use std::ffi::OsStr;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// Between two looks.
const TICK: Duration = Duration::from_millis(250);
/// How long the build has to be silent before anything is drawn.
const SILENCE: Duration = Duration::from_millis(500);
/// Takes a line away.
const ERASE: &[u8] = b"\r\x1b[K";

/// When progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(super) enum When {
    /// The terminal's own indicator (OSC 9;4), where it is known to have one
    #[default]
    Auto,
    /// On a terminal, also a line while the build is silent
    Line,
    /// Nothing
    Never,
}

/// What is shown of a build.
#[derive(Debug)]
pub(super) struct Shown {
    began: Instant,
    line: bool,
    indicator: bool,
    known: Mutex<Progress>,
    screen: Mutex<Screen>,
    over: AtomicBool,
}

#[derive(Debug)]
struct Screen {
    /// Our line is there.
    drawn: bool,
    /// The build has ended its last line.
    whole_line: bool,
    /// Nobody moves the cursor about or prints unseen.
    ours: bool,
    /// When the build has last printed.
    printed: Instant,
    /// The terminal as the command found it.
    modes: Option<Termios>,
    /// The percentage that the indicator shows.
    indicated: Option<u8>,
}

impl Shown {
    /// Of a command in a workspace; none where nothing is to be shown: in a pipe, with `NO_COLOR`, on a terminal
    /// that takes no control sequences.
    pub(super) fn of(when: When, workspace: &Path, command: &str) -> Option<Arc<Self>> {
        if when == When::Never || !is_terminal() {
            return None;
        }
        let (line, indicator) = (when == When::Line, has_indicator());
        if !line && !indicator {
            return None;
        }
        let past = super::ask::last_state(&workspace.join(STATE));
        let past = past.and_then(|state| forecast::of(&state, command).ok());
        let now = Instant::now();
        Some(Arc::new(Self {
            began: now,
            line,
            indicator,
            known: Mutex::new(Progress::new(&past.unwrap_or_default())),
            screen: Mutex::new(Screen {
                drawn: false,
                whole_line: true,
                ours: true,
                printed: now,
                modes: tcgetattr(std::io::stderr()).ok(),
                indicated: None,
            }),
            over: AtomicBool::new(false),
        }))
    }

    /// Begins to show it.
    pub(super) fn start(self: &Arc<Self>) {
        let shown: Weak<Self> = Arc::downgrade(self);
        let stops = signals::stops();
        let _detached = thread::spawn(move || {
            loop {
                let is_stop = comes(stops.as_ref());
                match shown.upgrade() {
                    Some(shown) if is_stop => {
                        // Nothing is drawn before it goes on: other threads are stopped with this one.
                        shown.clear();
                        signals::stop();
                    }
                    Some(shown) if !shown.over.load(Ordering::SeqCst) => shown.draw(),
                    _ if is_stop => signals::stop(),
                    _ if stops.is_some() => (),
                    _ => return,
                }
            }
        });
    }

    /// Whether there may be a line, which ^Z is to find gone.
    pub(super) fn may_have_line(when: When) -> bool {
        when == When::Line && is_terminal()
    }

    /// What happens right now.
    pub(super) fn live(&self, live: &Live<'_>) {
        match live {
            Live::Began {
                number,
                parent,
                title,
            } => {
                let now = self.now();
                self.known().began(*number, *parent, title, now);
            }
            Live::Prints(bytes) => {
                let mut screen = self.screen();
                screen.erase();
                screen.printed = Instant::now();
                if let Some(last) = bytes.last() {
                    screen.whole_line = *last == b'\n';
                }
                screen.ours &= only_text(bytes);
            }
            Live::Unseen => {
                let mut screen = self.screen();
                screen.erase();
                screen.ours = false;
            }
        }
    }

    /// A step has ended.
    pub(super) fn ended(&self, number: u32, title: &str, verdict: &Verdict) {
        self.known().ended(number, title, verdict);
    }

    /// Takes the line away before something of ours is printed.
    pub(super) fn clear(&self) {
        self.screen().erase();
    }

    /// Leaves the terminal as it was.
    pub(super) fn finish(&self) {
        self.over.store(true, Ordering::SeqCst);
        let mut screen = self.screen();
        screen.erase();
        if screen.indicated.take().is_some() {
            put(b"\x1b]9;4;0;\x1b\\");
        }
    }

    fn draw(&self) {
        let now = self.now();
        let (text, percent) = {
            let known = self.known();
            let width = tcgetwinsize(std::io::stderr()).map_or(80, |size| size.ws_col);
            let width = usize::from(width).saturating_sub(1);
            (known.line(now, width), known.percent(now))
        };
        let mut screen = self.screen();
        if self.over.load(Ordering::SeqCst) || !screen.may_draw() {
            return;
        }
        if self.indicator && screen.indicated != Some(percent.unwrap_or(0)) {
            screen.indicated = Some(percent.unwrap_or(0));
            let sequence = match percent {
                Some(percent) => format!("\x1b]9;4;1;{percent}\x1b\\"),
                None => "\x1b]9;4;3;\x1b\\".to_owned(),
            };
            put(sequence.as_bytes());
        }
        if self.line {
            let mut bytes = if screen.drawn {
                ERASE.to_vec()
            } else {
                Vec::new()
            };
            bytes.extend_from_slice(text.as_bytes());
            screen.drawn = true;
            put(&bytes);
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn known(&self) -> MutexGuard<'_, Progress> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn screen(&self) -> MutexGuard<'_, Screen> {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Screen {
    fn erase(&mut self) {
        if std::mem::take(&mut self.drawn) {
            put(ERASE);
        }
    }

    fn may_draw(&self) -> bool {
        let terminal = std::io::stderr();
        self.ours
            && self.whole_line
            && self.printed.elapsed() >= SILENCE
            && tcgetpgrp(&terminal).is_ok_and(|group| group == rustix::process::getpgrp())
            && match (&self.modes, tcgetattr(&terminal)) {
                (Some(was), Ok(is)) => {
                    was.local_modes == is.local_modes
                        && was.input_modes == is.input_modes
                        && was.output_modes == is.output_modes
                }
                (None, _) | (_, Err(_)) => false,
            }
    }
}

/// Waits for the time between two looks, or until the job is to stop; whether it is.
fn comes(stops: Option<&SignalFd>) -> bool {
    let Some(stops) = stops else {
        thread::sleep(TICK);
        return false;
    };
    let mut fds = [PollFd::new(stops.as_fd(), PollFlags::POLLIN)];
    let patience = PollTimeout::try_from(TICK).unwrap_or(PollTimeout::MAX);
    poll(&mut fds, patience).is_ok_and(|n| n > 0)
        && stops.read_signal().is_ok_and(|one| one.is_some())
}

/// Text with colours at most: the cursor is where the text has ended.
fn only_text(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = rest
        .iter()
        .position(|b| *b < b' ' && !b"\n\r\t\x07".contains(b))
    {
        let Some(colour) = rest[at..].strip_prefix(b"\x1b[") else {
            return false;
        };
        let is_number = |b: &u8| b.is_ascii_digit() || b";:".contains(b);
        let end = colour.iter().position(|b| !is_number(b));
        match end.map(|end| (colour[end], &colour[end + 1..])) {
            Some((b'm' | b'K', after)) => rest = after,
            _ => return false,
        }
    }
    true
}

/// Takes away what a host that was killed may have left on the terminal.
pub(super) fn wipe(when: When) {
    if when == When::Never || !std::io::stderr().is_terminal() {
        return;
    }
    if when == When::Line {
        put(ERASE);
    }
    if has_indicator() {
        put(b"\x1b]9;4;0;\x1b\\");
    }
}

/// Whether something may be shown on standard error: a terminal that takes control sequences.
fn is_terminal() -> bool {
    let dumb = place::variable("TERM").is_none_or(|term| term == "dumb");
    !dumb && place::variable("NO_COLOR").is_none() && std::io::stderr().is_terminal()
}

/// Terminals that show OSC 9;4 as progress. Others may take an OSC 9 for a message to be shown.
fn has_indicator() -> bool {
    let is =
        |name: &str, value: &str| place::variable(name).is_some_and(|is| is == OsStr::new(value));
    place::variable("WT_SESSION").is_some()
        || is("ConEmuANSI", "ON")
        || is("TERM_PROGRAM", "WezTerm")
        || is("TERM_PROGRAM", "ghostty")
}

fn put(bytes: &[u8]) {
    let _gone = std::io::stderr().write_all(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_colours_leave_the_cursor_alone() {
        for text in [
            "",
            "cc -c a.c\n",
            "\x1b[1;31merror\x1b[m\x1b[K: a\n",
            "50%\r100%\n",
        ] {
            assert!(only_text(text.as_bytes()), "{text:?}");
        }
        for text in [
            "\x1b[2J",
            "\x1b[?1049h",
            "\x1b[3",
            "\x1b",
            "a\x1b]0;t\x07",
            "\x0eabc",
            "\x1b[A",
        ] {
            assert!(!only_text(text.as_bytes()), "{text:?}");
        }
    }
}
