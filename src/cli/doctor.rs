//! `rfs doctor`: what this machine allows, what each missing thing costs, and the remedy.
//!
//! What counts is a trial: a build of `true` under watch, in a directory of its own, once for each way of
//! tracing. The machine's own words stand beside it to say what can be done about a failure.

use super::build::Telling;
use super::descriptors::Inherited;
use super::error::CommandError;
use super::machine::{self, Finding, Grade};
use super::wire::{self, End, Failure, Word};
use super::{console, features, host, place, workspace};
use crate::disk::{Disk, RealDisk};
use crate::runner::{Preload, Request, Tracer, probe, spawn};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::ForkResult;
use serde::Serialize;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Tell what this machine allows, what each missing thing costs, and how to get it
///
/// Exit status 0 if builds can be watched here, 1 if not.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// One JSON object, schema `rfs.doctor/1`
    #[arg(long)]
    json: bool,
    /// Directory of the cache [default: as for `rfs build`]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
pub(super) struct Findings {
    schema: &'static str,
    usable: bool,
    findings: Vec<Finding>,
}

pub(super) fn run(args: &Args) -> Result<i32, CommandError> {
    let Some(all) = look(args.cache_dir.as_deref())? else {
        return Ok(0);
    };
    console::answer(if args.json {
        serde_json::to_string_pretty(&all).map_err(CommandError::new)?
    } else {
        text(&all)
    });
    Ok(i32::from(!all.usable))
}

/// Looks at everything. None: this process became part of a trial, which is over.
pub(super) fn look(cache_dir: Option<&Path>) -> Result<Option<Findings>, CommandError> {
    let cwd = place::cwd()?;
    let config = place::config(&workspace::find(&cwd))?;
    let cache = place::cache(cache_dir, config.cache_dir.as_deref(), &cwd)?;
    // As long as there is one thread.
    let abilities = probe();
    let mut outcomes = Vec::new();
    for tracer in [Tracer::Notify, Tracer::Ptrace] {
        match trial(tracer) {
            Trial::Over(outcome) => outcomes.push(outcome),
            Trial::InHost => return Ok(None),
        }
    }
    let mut findings = vec![
        machine::kernel(),
        machine::fuse(),
        machine::mount(),
        machine::passthrough(),
        machine::io_uring(),
    ];
    findings.extend(features::abilities(&abilities));
    findings.push(machine::ptrace());
    let wanted = place::preload(config.preload) != Preload::Off;
    findings.push(features::library(wanted));
    findings.push(features::changes());
    findings.extend([
        features::processors(),
        features::open_files(),
        features::pressure(),
        machine::cache_dir(&cache),
    ]);
    findings.extend(features::cache_of(&cache));
    findings.extend(judge(&outcomes));
    let usable = findings
        .iter()
        .all(|finding| finding.grade != Grade::Missing);
    Ok(Some(Findings {
        schema: "rfs.doctor/1",
        usable,
        findings,
    }))
}

/// One way of tracing is enough; notification is the quicker.
fn judge(outcomes: &[Result<(), String>]) -> Vec<Finding> {
    let any = outcomes.iter().any(Result::is_ok);
    ["trial by notification", "trial by ptrace"]
        .into_iter()
        .zip(outcomes)
        .map(|(name, outcome)| match outcome {
            Ok(()) => Finding::good(name, "a build can be watched"),
            Err(reason) if any => Finding::lacking(
                name,
                Grade::Limited,
                reason,
                "only the other way of tracing can be used",
                "none needed; in a container, allow the system calls seccomp and ptrace",
            ),
            Err(reason) => Finding::lacking(
                name,
                Grade::Missing,
                reason,
                "builds cannot be watched this way",
                "see what is said above; in a container, start it with --device /dev/fuse \
                 --cap-add SYS_ADMIN; in a chroot only root can: enter it as a container does, by pivot_root",
            ),
        })
        .collect()
}

/// What a trial means for the process that it returns in.
enum Trial {
    /// It is over, or why it failed.
    Over(Result<(), String>),
    /// This process was its host and has nothing more to do.
    InHost,
}

/// Watches `true` in a directory of its own, which is then removed.
fn trial(tracer: Tracer) -> Trial {
    let dir = std::env::temp_dir().join("rfs-doctor-XXXXXX");
    let dir = match nix::unistd::mkdtemp(&dir) {
        Ok(dir) => dir,
        Err(errno) => {
            let path = dir.display();
            return Trial::Over(Err(format!("mkdtemp {path}: {}", errno.desc())));
        }
    };
    let trial = trial_in(tracer, &dir);
    if matches!(trial, Trial::Over(_)) {
        // What it leaves is in a directory for such things.
        let _best_effort = RealDisk.remove_all(&dir);
    }
    trial
}

fn trial_in(tracer: Tracer, dir: &Path) -> Trial {
    if let Err(error) = workspace::prepare(dir, &RealDisk) {
        return Trial::Over(Err(error.to_string()));
    }
    let forked = wire::pair().and_then(|ends| Ok((ends, spawn::fork()?)));
    let ((here, there), side) = match forked {
        Ok(forked) => forked,
        Err(error) => return Trial::Over(Err(error.to_string())),
    };
    match side {
        ForkResult::Child => {
            drop(here);
            let request = request(tracer, dir);
            host::run(&request, &Telling::NOTHING, there, Inherited::default());
            Trial::InHost
        }
        ForkResult::Parent { child } => {
            drop(there);
            let outcome = hear_out(&here);
            if outcome.is_err() {
                let _gone = kill(child, Signal::SIGKILL);
            }
            let _reaped = waitpid(child, None);
            Trial::Over(outcome)
        }
    }
}

fn request(tracer: Tracer, dir: &Path) -> Request {
    Request {
        argv: vec!["true".into()],
        env: std::env::vars_os().collect(),
        cwd: dir.to_owned(),
        workspace: dir.to_owned(),
        cache: dir.join(workspace::STATE).join("trial"),
        cache_size: u64::MAX,
        mask: SigSet::empty(),
        tracer,
        preload: Preload::On,
        shell: false,
        rerun: false,
        strict_clock: false,
        policy: crate::base::policy::Policy::default(),
        pins: None,
        room: None,
        jobs: None,
    }
}

/// What the host of a trial says in the end.
fn hear_out(host: &End) -> Result<(), String> {
    const LONG_ENOUGH_MS: u16 = 10_000;
    loop {
        let mut fds = [PollFd::new(host.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(LONG_ENOUGH_MS)) {
            Ok(0) => return Err("no answer within 10 s".to_owned()),
            Ok(_) => {}
            Err(errno) => return Err(format!("poll: {}", errno.desc())),
        }
        return match host.hear().map_err(|error| error.to_string())? {
            Some(Word::Started(_)) => continue,
            Some(Word::Exited(0)) => Ok(()),
            Some(Word::Exited(status)) => Err(format!("`true` ended with exit status {status}")),
            Some(Word::Died(signal)) => Err(format!("`true` was killed by signal {signal}")),
            Some(Word::Failed(Failure::Watch(reason)) | Word::Lost(reason)) => Err(reason),
            Some(Word::Failed(Failure::Exec(name, errno))) => {
                Err(format!("cannot execute {name}: errno {errno}"))
            }
            None => Err("the host of the trial ended without a word".to_owned()),
        };
    }
}

/// As people read it.
pub(super) fn text(all: &Findings) -> String {
    let mut lines = Vec::new();
    for finding in &all.findings {
        let mark = match finding.grade {
            Grade::Good => "ok",
            Grade::Limited => "limited",
            Grade::Missing => "MISSING",
        };
        lines.push(format!("{mark:<8} {}: {}", finding.name, finding.found));
        for (what, text) in [
            ("costs", finding.cost),
            ("remedy", finding.remedy.as_deref()),
        ] {
            if let Some(text) = text {
                lines.push(format!("         {what}: {text}"));
            }
        }
    }
    lines.push(if all.usable {
        "builds can be watched here".to_owned()
    } else {
        "builds cannot be watched here: `rfs build` runs commands plainly".to_owned()
    });
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_with_cost_and_remedy() {
        let all = Findings {
            schema: "rfs.doctor/1",
            usable: false,
            findings: vec![
                Finding::good("kernel", "6.18"),
                Finding::lacking("mount", Grade::Missing, "off", "no view", "sysctl x=1"),
            ],
        };
        assert_eq!(
            text(&all),
            "ok       kernel: 6.18\n\
             MISSING  mount: off\n\
             \x20        costs: no view\n\
             \x20        remedy: sysctl x=1\n\
             builds cannot be watched here: `rfs build` runs commands plainly"
        );
    }

    #[test]
    fn one_way_of_tracing_is_enough() {
        let grades = |outcomes: [Result<(), &str>; 2]| {
            let outcomes = outcomes.map(|outcome| outcome.map_err(str::to_owned));
            judge(&outcomes)
                .into_iter()
                .map(|f| f.grade)
                .collect::<Vec<_>>()
        };
        assert_eq!(grades([Ok(()), Ok(())]), [Grade::Good, Grade::Good]);
        assert_eq!(grades([Err("x"), Ok(())]), [Grade::Limited, Grade::Good]);
        assert_eq!(
            grades([Err("x"), Err("y")]),
            [Grade::Missing, Grade::Missing]
        );
    }
}
