//! The host: the process that serves the view and the tracer of one build, tells what became of it, and
//! stays in the background as long as the build has left processes behind.
//!
//! It holds the command's descriptors no longer than it must, and never decides how the program ends:
//! that is the front's.

use super::descriptors::{self, Inherited};
use super::progress::Shown;
use super::wire::{End, Word};
use super::{build::Telling, console, profile, summary_file};
use crate::disk::RealDisk;
use crate::report::{Calls, Event, Live, Sink, Step, Summary, explain};
use crate::runner::{self, Request};
use rustix::process::{PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

/// Does the build and tells the front. Returns when the last process of the build has ended.
pub(super) fn run(request: &Request, telling: &Telling, front: End, inherited: Inherited) {
    let begun = Instant::now();
    // So that who looks at the list of processes can tell the two.
    let _named = nix::sys::prctl::set_name(c"rfs-host");
    let shown = telling.shown(request);
    let heard = Arc::new(Heard {
        shown: shown.clone(),
        ..Heard::default()
    });
    let mut running = match runner::start(request, Arc::clone(&heard) as Arc<dyn Sink>) {
        Ok(running) => running,
        Err(error) => return front.say(&Word::Failed(error.into())),
    };
    front.say(&Word::Started(running.pid()));
    descriptors::leave_input_and_output();
    inherited.close();
    if let Some(shown) = &shown {
        shown.start();
    }

    let front = Arc::new(front);
    let ended = Arc::new(AtomicBool::new(false));
    share_fate(Arc::clone(&front), running.pid(), Arc::clone(&ended));

    let how = running.wait();
    ended.store(true, Ordering::SeqCst);
    if let Some(shown) = &shown {
        shown.finish();
    }
    if how.is_ok() {
        let steps = heard.steps();
        let summary = Summary::of(&steps, begun.elapsed());
        telling.tell(&steps, &summary, running.calls());
    }
    descriptors::leave_errors();
    front.say(&Word::of(how));

    // Not to hold a mount or a directory that somebody wants to be rid of.
    let _moved = nix::unistd::chdir("/");
    running.drain();
}

/// The front stands for the command: who kills it wants the command dead, as without us. What the command
/// has started lives on, also as without us, and nobody is there to be told about it.
fn share_fate(front: Arc<End>, command: i32, ended: Arc<AtomicBool>) {
    // Its number may be somebody else's by the time at which it is known to have ended.
    let command = rustix::process::Pid::from_raw(command);
    let held = command.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    thread::spawn(move || {
        while let Ok(Some(_)) = front.hear() {}
        if !ended.load(Ordering::SeqCst) {
            descriptors::leave_errors();
            let _gone = match (held, command) {
                (Some(held), _) => pidfd_send_signal(held, Signal::KILL),
                (None, Some(command)) => kill_process(command, Signal::KILL),
                (None, None) => Ok(()),
            };
        }
    });
}

/// What the runner has told so far.
#[derive(Debug, Default)]
struct Heard {
    steps: Mutex<Vec<Step>>,
    warnings: Mutex<HashSet<String>>,
    shown: Option<Arc<Shown>>,
}

impl Heard {
    fn steps(&self) -> Vec<Step> {
        std::mem::take(&mut *self.steps.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Sink for Heard {
    fn take(&self, event: Event) {
        match event {
            Event::Step(step) => {
                if let Some(shown) = &self.shown {
                    shown.ended(step.number, &step.title, &step.verdict);
                }
                let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
                steps.push(*step);
            }
            Event::Warning(text) => {
                let mut told = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
                if told.insert(text.clone()) {
                    if let Some(shown) = &self.shown {
                        shown.clear();
                    }
                    console::warn(text, None);
                }
            }
        }
    }

    fn is_live(&self) -> bool {
        self.shown.is_some()
    }

    fn live(&self, live: Live<'_>) {
        if let Some(shown) = &self.shown {
            shown.live(&live);
        }
    }
}

impl Telling {
    fn shown(&self, request: &Request) -> Option<Arc<Shown>> {
        let command = runner::title(&request.argv);
        Shown::of(self.progress, &request.workspace, &command)
    }

    fn tell(&self, steps: &[Step], summary: &Summary, calls: Calls) {
        if self.explain {
            for line in explain::lines(steps) {
                console::tell(line);
            }
        }
        if let Some(path) = &self.summary {
            if let Err(error) = summary_file::write(path, summary, &RealDisk) {
                console::warn(
                    format_args!("the summary could not be written: {error}"),
                    None,
                );
            }
        }
        if let Some(path) = &self.profile {
            // Nobody has asked for it: the build is no worse without.
            let _kept = profile::keep(path, steps, calls, &RealDisk);
        }
        if !self.quiet {
            console::tell(summary);
        }
    }
}
