//! How far a build has come: which steps run and for how long, how many were served, and what is left by the
//! times of an earlier run of the same command. Pure: the time is told, and what is made of it is cli's.

use super::{Verdict, duration, explain::plain};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// Running steps that a line names, at most.
const MAX_NAMED: usize = 3;
/// Characters of a command in a line, at most.
const MAX_COMMAND: usize = 40;

/// A step of an earlier run of the same command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// Its number.
    pub number: u32,
    /// The step that started it.
    pub parent: Option<u32>,
    /// Its command for people.
    pub title: String,
    /// Microseconds that it takes when it runs.
    pub wall_us: u64,
}

/// What runs and what has ended.
#[derive(Debug, Default)]
pub struct Progress {
    running: BTreeMap<u32, Running>,
    n_inside: HashMap<u32, u32>,
    hit: u64,
    ran: u64,
    refused: u64,
    /// By command: the places of its steps that are still to come, the first one last.
    to_come: HashMap<String, Vec<usize>>,
    past: Vec<Expected>,
    /// Microseconds of the innermost steps of the past.
    total_us: u64,
    done_us: u64,
}

#[derive(Debug)]
struct Running {
    title: String,
    parent: Option<u32>,
    began_us: u64,
    /// Its place in the past.
    past: Option<usize>,
}

#[derive(Debug)]
struct Expected {
    wall_us: u64,
    inside: Vec<usize>,
    over: bool,
}

impl Progress {
    /// Of a build that has not begun; `past`: an earlier one, in order of the steps' numbers.
    #[must_use]
    pub fn new(past: &[Past]) -> Self {
        let mut new = Self::default();
        let places: HashMap<u32, usize> = (past.iter().enumerate())
            .map(|(place, step)| (step.number, place))
            .collect();
        for step in past {
            new.past.push(Expected {
                wall_us: step.wall_us,
                inside: Vec::new(),
                over: false,
            });
        }
        for (place, step) in past.iter().enumerate() {
            let parent = step.parent.and_then(|parent| places.get(&parent));
            // Who starts a step comes before it.
            if let Some(parent) = parent.filter(|parent| **parent < place) {
                new.past[*parent].inside.push(place);
            }
        }
        for (place, step) in past.iter().enumerate().rev() {
            let title = step.title.clone();
            new.to_come.entry(title).or_default().push(place);
            if new.past[place].inside.is_empty() {
                new.total_us += step.wall_us;
            }
        }
        new
    }

    /// A step has begun at a time, in microseconds.
    pub fn began(&mut self, number: u32, parent: Option<u32>, title: &str, now_us: u64) {
        let past = self.take(title);
        if let Some(parent) = parent {
            *self.n_inside.entry(parent).or_default() += 1;
        }
        let running = Running {
            title: title.to_owned(),
            parent,
            began_us: now_us,
            past,
        };
        self.running.insert(number, running);
    }

    /// A step has ended.
    pub fn ended(&mut self, number: u32, title: &str, verdict: &Verdict) {
        match verdict {
            Verdict::Hit => self.hit += 1,
            Verdict::Ran(_) => self.ran += 1,
            Verdict::Refused(_) => self.refused += 1,
        }
        let past = match self.running.remove(&number) {
            Some(running) => {
                if let Some(inside) = running.parent.and_then(|at| self.n_inside.get_mut(&at)) {
                    *inside = inside.saturating_sub(1);
                }
                running.past
            }
            None => self.take(title),
        };
        if let Some(past) = past {
            self.cross_off(past);
        }
    }

    /// The next step of the past with this command.
    fn take(&mut self, title: &str) -> Option<usize> {
        let places = self.to_come.get_mut(title)?;
        while let Some(place) = places.pop() {
            if !self.past[place].over {
                return Some(place);
            }
        }
        None
    }

    /// It is over, and so is what it has started in the past.
    fn cross_off(&mut self, place: usize) {
        let mut next = vec![place];
        while let Some(place) = next.pop() {
            let step = &mut self.past[place];
            if !std::mem::replace(&mut step.over, true) && step.inside.is_empty() {
                self.done_us += step.wall_us;
            }
            next.extend_from_slice(&self.past[place].inside);
        }
    }

    /// Those that run and in which none runs, the oldest first.
    fn innermost(&self) -> Vec<&Running> {
        let is_inner = |number: &u32| self.n_inside.get(number).is_none_or(|n| *n == 0);
        let inner = self.running.iter().filter(|(number, _)| is_inner(number));
        let mut inner: Vec<_> = inner.map(|(_, running)| running).collect();
        inner.sort_by_key(|running| running.began_us);
        inner
    }

    /// Microseconds of work that an earlier run says are left, and of all.
    fn left_us(&self, now_us: u64) -> (u64, u64) {
        let begun = self.innermost().into_iter().map(|running| {
            let whole = running.past.map(|place| &self.past[place]);
            let whole = whole.filter(|past| past.inside.is_empty());
            whole.map_or(0, |past| {
                past.wall_us.min(now_us.saturating_sub(running.began_us))
            })
        });
        let done = self.done_us + begun.sum::<u64>();
        (self.total_us.saturating_sub(done), self.total_us)
    }

    /// Part that is done, from 0 to 100; none if no earlier run is known.
    #[must_use]
    pub fn percent(&self, now_us: u64) -> Option<u8> {
        let (left, total) = self.left_us(now_us);
        let percent = (total - left).saturating_mul(100).checked_div(total)?;
        u8::try_from(percent).ok()
    }

    /// One line, at most `width` characters, all of them printable ASCII.
    #[must_use]
    pub fn line(&self, now_us: u64, width: usize) -> String {
        let text = |us: u64| duration::text(Duration::from_micros(us));
        let mut line = format!("rfs: {} hit, {} ran", self.hit, self.ran);
        if self.refused > 0 {
            line.push_str(&format!(", {} refused", self.refused));
        }
        let inner = self.innermost();
        if let Some(percent) = self.percent(now_us) {
            let (left, _) = self.left_us(now_us);
            let left = left / (inner.len() as u64).max(1);
            line.push_str(&format!("; {percent}%, about {} left", text(left)));
        }
        line.push_str(&format!("; {} running", inner.len()));
        let mut before = ": ";
        for running in inner.iter().take(MAX_NAMED) {
            let command: String = plain(&running.title).chars().take(MAX_COMMAND).collect();
            line.push_str(before);
            line.push_str(&command);
            line.push_str(&format!(
                " {}",
                text(now_us.saturating_sub(running.began_us))
            ));
            if let Some(past) = running.past {
                line.push_str(&format!(" of {}", text(self.past[past].wall_us)));
            }
            before = ", ";
        }
        if inner.len() > MAX_NAMED {
            line.push_str(", ...");
        }
        let ascii = |c: char| {
            if c.is_ascii_graphic() || c == ' ' {
                c
            } else {
                '?'
            }
        };
        line.chars().map(ascii).take(width).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Miss;

    fn past(number: u32, parent: Option<u32>, title: &str, seconds: u64) -> Past {
        Past {
            number,
            parent,
            title: title.to_owned(),
            wall_us: seconds * 1_000_000,
        }
    }

    const RAN: Verdict = Verdict::Ran(Miss::Unknown);

    const S: u64 = 1_000_000;

    fn known() -> Progress {
        Progress::new(&[
            past(0, None, "make", 20),
            past(1, Some(0), "cc a", 10),
            past(2, Some(0), "sh", 5),
            past(3, Some(2), "cc b", 5),
            past(4, Some(0), "cc a", 5),
        ])
    }

    #[test]
    fn what_is_left_is_told_by_an_earlier_run() {
        let mut all = known();
        assert_eq!(all.percent(0), Some(0));
        all.began(0, None, "make", 0);
        all.began(1, Some(0), "cc a", 0);
        assert_eq!(all.percent(5 * S), Some(25));
        // Longer than it was is not more than it was.
        assert_eq!(all.percent(50 * S), Some(50));
        all.ended(1, "cc a", &RAN);
        // A step that is served stands for those that it had started.
        all.ended(2, "sh", &Verdict::Hit);
        assert_eq!(all.percent(50 * S), Some(75));
        assert_eq!(
            all.line(50 * S, 200),
            "rfs: 1 hit, 1 ran; 75%, about 5.0 s left; 1 running: make 50.0 s of 20.0 s"
        );
        // The same command for the second time.
        all.ended(3, "cc a", &Verdict::Hit);
        assert_eq!(all.percent(50 * S), Some(100));
        all.ended(4, "cc a", &Verdict::Hit);
        all.ended(0, "make", &RAN);
        assert_eq!(all.percent(60 * S), Some(100));
    }

    #[test]
    fn without_an_earlier_run_nothing_is_guessed() {
        let mut all = Progress::new(&[]);
        assert_eq!(all.percent(0), None);
        all.began(0, None, "m\u{e4}ke \u{1b}[2J", 0);
        let line = all.line(S, 200);
        assert_eq!(line, "rfs: 0 hit, 0 ran; 1 running: m?ke \\u{1b}[2J 1.0 s");
        assert_eq!(all.line(S, 9), "rfs: 0 hi");
        for number in 1..6 {
            all.began(number, Some(0), "cc", 0);
        }
        let line = all.line(S, 200);
        assert!(
            line.ends_with("5 running: cc 1.0 s, cc 1.0 s, cc 1.0 s, ..."),
            "{line}"
        );
    }
}
