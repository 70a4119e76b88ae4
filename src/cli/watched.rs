//! One command under watch, whoever asks for it: becomes front and host, and ends as the command has ended.

use super::config::Config;
use super::descriptors::{self, Inherited};
use super::error::CommandError;
use super::executable::cannot_execute;
use super::front::{self, Outcome};
use super::signals::Taken;
use super::wire::{self, Failure};
use super::{build::Telling, console, host, place, progress, summary_file, workspace};
use crate::cache::gc;
use crate::disk::RealDisk;
use crate::runner::room::{Here, Pressure};
use crate::runner::{Request, spawn};
use nix::errno::Errno;
use nix::unistd::ForkResult;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A build that nobody has given options to: what configuration and environment say.
pub(super) fn plain(
    argv: Vec<OsString>,
    cwd: PathBuf,
    workspace: PathBuf,
    config: Config,
    taken: &Taken,
) -> Result<Request, CommandError> {
    Ok(Request {
        argv,
        env: std::env::vars_os().collect(),
        cache: place::cache(None, config.cache_dir.as_deref(), &cwd)?,
        cache_size: config.cache_size.unwrap_or(gc::SIZE),
        cwd,
        workspace,
        mask: taken.mask,
        tracer: config.tracer.unwrap_or_default(),
        preload: place::preload(config.preload),
        shell: false,
        rerun: false,
        strict_clock: config.strict_clock.unwrap_or(false),
        pins: None,
        policy: config.policy,
        room: Some(Arc::new(Here::new(None, &Pressure::default()))),
        jobs: None,
    })
}

/// Runs it; the exit status is the command's. Where it cannot be watched it runs plainly, with a warning, unless
/// `strict` says that this is an error.
pub(super) fn run(
    request: &Request,
    telling: &Telling,
    taken: Taken,
    inherited: Inherited,
    strict: bool,
) -> Result<i32, CommandError> {
    log::debug!(
        "workspace {:?}, cache {:?}",
        request.workspace,
        request.cache
    );

    let outcome = match prepare(&request.workspace) {
        Ok(()) => {
            let failed = |error| CommandError::new(format_args!("cannot start the host: {error}"));
            let (front_end, host_end) = wire::pair().map_err(failed)?;
            match spawn::fork().map_err(failed)? {
                ForkResult::Child => {
                    drop(front_end);
                    host::run(request, telling, host_end, inherited);
                    return Ok(0);
                }
                ForkResult::Parent { child } => {
                    drop(host_end);
                    let started = || {
                        descriptors::leave_input_and_output();
                        inherited.close();
                    };
                    front::follow(child, &front_end, &taken, started).map_err(|error| {
                        CommandError::new(format_args!("lost touch with the build: {error}"))
                    })?
                }
            }
        }
        Err(reason) => Outcome::Failed(Failure::Watch(reason)),
    };
    match outcome {
        Outcome::Exited(status) => Ok(status),
        Outcome::Died(signal) => Ok(spawn::die_by(signal)),
        Outcome::Interrupted(signal) => Ok(spawn::die_by(signal as i32)),
        Outcome::Lost(reason) => {
            progress::wipe(telling.progress);
            Err(CommandError::new(format_args!(
                "lost sight of the command, which may have done anything or nothing: {reason}"
            )))
        }
        Outcome::Failed(Failure::Exec(name, errno)) => Err(cannot_execute(&name, errno)),
        Outcome::Failed(Failure::Watch(reason)) if strict => {
            Err(CommandError::new(reason).hint(REMEDY))
        }
        Outcome::Failed(Failure::Watch(reason)) => {
            console::warn(
                format_args!("{reason}; the command runs plainly, nothing is recorded or served"),
                Some(REMEDY),
            );
            if let Some(path) = &telling.summary {
                summary_file::remove(path, &RealDisk);
            }
            taken.give_back();
            let path = request.env.iter().find(|(name, _)| name == "PATH");
            let path = path.map_or(OsStr::new("/bin:/usr/bin"), |(_, path)| path);
            Err(execute(&request.argv, &request.env, path))
        }
    }
}

const REMEDY: &str = "`rfs doctor` tells what this machine lacks and how to get it";

/// Makes `.rfs/`, or says why the build cannot be watched.
fn prepare(root: &Path) -> Result<(), String> {
    let made = workspace::prepare(root, &RealDisk)
        .map_err(|error| format!("cannot keep state in the workspace: {error}"))?;
    if made && place::home().as_deref() == Some(root) {
        console::warn(
            "the home directory as a whole is now a workspace",
            Some("remove ~/.rfs and use `rfs init` in the project's directory"),
        );
    }
    Ok(())
}

/// execve(2) in place of ourselves, so that nothing of us remains, by the directories of `path`. Returns why it could
/// not be done.
pub(super) fn execute(
    argv: &[OsString],
    env: &[(OsString, OsString)],
    path: &OsStr,
) -> CommandError {
    let name = argv.first().map(OsString::as_os_str).unwrap_or_default();
    let errno = strings(argv, env).map_or(libc::EINVAL, |(words, env)| {
        let mut worst = Errno::ENOENT;
        for program in candidates(name, path) {
            let Ok(program) = CString::new(program.as_os_str().as_bytes()) else {
                continue;
            };
            match nix::unistd::execve(&program, &words, &env) {
                Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(Errno::ENOEXEC) => {
                    let mut script = vec![c"/bin/sh".to_owned(), program];
                    script.extend(words.into_iter().skip(1));
                    let Err(errno) = nix::unistd::execve(c"/bin/sh", &script, &env);
                    return errno as i32;
                }
                Err(errno) => worst = errno,
            }
        }
        worst as i32
    });
    cannot_execute(&name.to_string_lossy(), errno)
}

fn candidates(name: &OsStr, path: &OsStr) -> Vec<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return vec![name.into()];
    }
    // An empty entry is the working directory.
    std::env::split_paths(path)
        .map(|dir| Path::new(".").join(dir).join(name))
        .collect()
}

fn strings(
    argv: &[OsString],
    env: &[(OsString, OsString)],
) -> Option<(Vec<CString>, Vec<CString>)> {
    let words = argv.iter().map(|word| CString::new(word.as_bytes()).ok());
    let env = env.iter().map(|(name, value)| {
        let mut text = name.clone();
        text.push("=");
        text.push(value);
        CString::new(text.into_vec()).ok()
    });
    Some((words.collect::<Option<_>>()?, env.collect::<Option<_>>()?))
}
