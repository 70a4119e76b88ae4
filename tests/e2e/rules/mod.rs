//! `rfs build TARGET...`: what runs and what does not, told by the lines of `--explain`.

mod changes;
mod control;
mod functions;
mod language;
mod library;
mod links;
mod marks;
mod own;
mod project;
mod queries;
mod reads;
mod sharing;
mod standing;
mod stories;
mod targets;
mod views;

use crate::run::{Cmd, Run};
use crate::space::TestSpace;

/// What became of the jobs of one command, by their titles.
pub struct Jobs {
    pub run: Run,
    told: Vec<(String, String)>,
}

impl Jobs {
    fn of(run: Run) -> Self {
        let text = String::from_utf8_lossy(&run.stderr).into_owned();
        let told = text.lines().filter_map(|line| {
            let (what, rest) = line.strip_prefix("rfs: ")?.split_once(' ')?;
            let title = match what {
                "run" | "failed" => rest.split_once(": ").map_or(rest, |(title, _)| title),
                "keep" | "serve" => rest,
                _ => return None,
            };
            Some((what.to_owned(), title.to_owned()))
        });
        let told = told.collect();
        Self { run, told }
    }

    fn those(&self, what: &str) -> Vec<&str> {
        let mut titles: Vec<&str> = self
            .told
            .iter()
            .filter(|(told, _)| told == what)
            .map(|(_, title)| title.as_str())
            .collect();
        titles.sort_unstable();
        titles
    }

    /// It succeeded, and ran exactly these.
    #[track_caller]
    pub fn ran(self, titles: &[&str]) -> Self {
        assert_eq!(self.run.status.code(), Some(0), "{}", self.run.err());
        self.tried(titles)
    }

    /// It ran exactly these, whatever came of it.
    #[track_caller]
    pub fn tried(self, titles: &[&str]) -> Self {
        let mut wanted = titles.to_vec();
        wanted.sort_unstable();
        assert_eq!(self.those("run"), wanted, "{}", self.run.err());
        self
    }

    /// It took the outputs of exactly these from the cache.
    #[track_caller]
    pub fn served(self, titles: &[&str]) -> Self {
        let mut wanted = titles.to_vec();
        wanted.sort_unstable();
        assert_eq!(self.those("serve"), wanted, "{}", self.run.err());
        self
    }

    /// It failed, and said all of this.
    #[track_caller]
    pub fn failed(self, told: &[&str]) -> Self {
        assert_eq!(self.run.status.code(), Some(1), "{}", self.run.err());
        for text in told {
            assert!(
                self.run.err().contains(text),
                "{text:?} in {}",
                self.run.err()
            );
        }
        self
    }
}

impl TestSpace {
    /// `rfs build --explain ARGS`.
    pub fn build(&self, args: &str) -> Jobs {
        let mut argv = vec![self.program().to_str().unwrap(), "build", "--explain"];
        argv.extend(args.split_whitespace());
        Jobs::of(self.bare(Cmd::new(argv)))
    }

    /// `rfs build ARGS`, which may rely on what an earlier command has seen.
    pub fn build_plainly(&self, args: &str) -> Jobs {
        let mut argv = vec![self.program().to_str().unwrap(), "build"];
        argv.extend(args.split_whitespace());
        Jobs::of(self.bare(Cmd::new(argv)))
    }
}

/// A workspace with these rules.
pub fn rules(text: &str) -> TestSpace {
    let space = TestSpace::new();
    space.write("Rfsfile", text);
    space
}
