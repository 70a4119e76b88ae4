//! `rfs mount`, `rfs umount` and `rfs status`: workspaces that stay mounted.

use super::descriptors::{self, Inherited};
use super::error::CommandError;
use super::signals::Taken;
use super::{console, place, workspace};
use crate::base::policy::Policy;
use crate::disk::RealDisk;
use crate::mount::table::{self, Entry};
use crate::mount::talk::{Answer, Ask, Daemon, How, Status, directory};
use crate::mount::{self, Notify, Plan, Removal};
use crate::report::duration;
use crate::runner::spawn;
use nix::fcntl::OFlag;
use nix::unistd::{ForkResult, pipe2};
use serde::Serialize;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

/// For how long nobody in particular may be in the way of an unmount.
const MOMENT: Duration = Duration::from_secs(2);

/// Mount a workspace, to run ordinary commands in it
///
/// Shows DIR at MNT [default: over DIR itself] by a daemon. A mount whose daemon is gone is taken away first.
/// What stood in DIR before, such as a shell, still sees what is below the mount: change into it again.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The workspace [default: that of the working directory]
    dir: Option<PathBuf>,
    /// Where to mount it, an existing directory [default: over DIR]
    mnt: Option<PathBuf>,
    /// Serve in this process, until it is told to end or the workspace is unmounted
    #[arg(short, long)]
    foreground: bool,
    /// End when nobody uses it any more and nothing was asked of it for so long (seconds, or with s, m, h)
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    idle: Option<Duration>,
    /// Let other users in, where an ordinary user mounts (needs `user_allow_other` in /etc/fuse.conf)
    #[arg(long)]
    allow_other: bool,
    /// Read and write every file by way of the daemon, though the kernel could do so itself
    #[arg(long)]
    no_passthrough: bool,
}

/// Unmount a workspace
#[derive(Debug, clap::Args)]
pub(super) struct Umount {
    /// Workspaces or where they are mounted [default: that of the working directory]
    dirs: Vec<PathBuf>,
    /// Although it is in use: who uses it may go on until he is done
    #[arg(short, long)]
    lazy: bool,
    /// Although it is in use: who uses it gets errors
    #[arg(short, long, conflicts_with = "lazy")]
    force: bool,
}

/// Tell which workspaces are mounted, and how they go
#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    /// Workspaces or where they are mounted [default: all]
    dirs: Vec<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn mount(args: &Args) -> Result<i32, CommandError> {
    let inherited = Inherited::list();
    let mut plan = plan(args)?;
    if let Some(entry) = table::at(&plan.at).map_err(unreadable)? {
        match status(&entry) {
            Ok(status) => return Ok(is_already(&entry, &status)),
            Err(_) if is_gone(&entry)? => {}
            Err(_) => recover(&entry)?,
        }
    }
    // Not before a dead mount was in the way.
    let config = place::config(&plan.workspace)?;
    plan.policy = config.policy;
    plan.idle = plan.idle.or(config.mount_idle);
    plan.others |= config.mount_others.unwrap_or(false);
    plan.passthrough &= config.mount_passthrough.unwrap_or(true);
    workspace::prepare(&plan.workspace, &RealDisk)
        .map_err(|error| CommandError::new(format_args!("cannot make a workspace: {error}")))?;
    let taken = Taken::take()?;
    if args.foreground {
        let told = || console::answer(format_args!("rfs: {} is mounted", plan.at.display()));
        mount::run(&plan, &taken.coming, |_| told()).map_err(explained)?;
        return Ok(0);
    }
    start(&plan, &taken, inherited).or_else(|error| {
        // Somebody else was faster.
        let there = table::at(&plan.at).ok().flatten();
        let there = there.and_then(|entry| Some((status(&entry).ok()?, entry)));
        there.map_or(Err(error), |(status, entry)| {
            Ok(is_already(&entry, &status))
        })
    })
}

fn is_already(entry: &Entry, status: &Status) -> i32 {
    let (at, pid) = (entry.at.display(), status.pid);
    console::answer(format_args!(
        "rfs: {at} is mounted already, by process {pid}"
    ));
    0
}

/// Whether a mount that was in the list is not there any more.
fn is_gone(entry: &Entry) -> Result<bool, CommandError> {
    let there = table::at(&entry.at).map_err(unreadable)?;
    Ok(there.is_none_or(|there| there.minor != entry.minor))
}

fn plan(args: &Args) -> Result<Plan, CommandError> {
    let cwd = place::cwd()?;
    let dir = match &args.dir {
        Some(dir) => resolved(&cwd, dir)?,
        None => workspace::find(&cwd),
    };
    workspace::refuse_root(&dir)?;
    let at = args.mnt.as_ref().map(|mnt| resolved(&cwd, mnt));
    let at = at.transpose()?.unwrap_or_else(|| dir.clone());
    // Asked for where something of ours is mounted already, the directory below it is meant.
    let backing = table::at(&dir).map_err(unreadable)?;
    let number = |name| place::variable(name)?.to_str()?.parse::<u64>().ok();
    let mine = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    let watchdog = number("WATCHDOG_USEC").filter(|_| mine && args.foreground);
    let notify = place::variable("NOTIFY_SOCKET").filter(|_| args.foreground);
    Ok(Plan {
        workspace: backing
            .filter(|_| args.mnt.is_none())
            .map_or(dir, |entry| entry.backing),
        at,
        others: args.allow_other,
        passthrough: !args.no_passthrough,
        idle: args.idle,
        policy: Policy::default(),
        sockets: directory(nix::unistd::geteuid().as_raw(), runtime().as_deref()),
        notify: Notify::to(notify.as_deref()),
        watchdog: watchdog.map(Duration::from_micros),
    })
}

/// Starts the daemon in the background and waits until it has mounted.
fn start(plan: &Plan, taken: &Taken, inherited: Inherited) -> Result<i32, CommandError> {
    let failed = |error: io::Error| CommandError::new(format_args!("cannot start: {error}"));
    let (word, told) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| failed(errno.into()))?;
    match spawn::fork().map_err(failed)? {
        ForkResult::Child => {
            drop(word);
            let _own_session = nix::unistd::setsid();
            let _named = nix::sys::prctl::set_name(c"rfs-mount");
            descriptors::leave_input_and_output();
            descriptors::leave_errors();
            inherited.close();
            let mut told = File::from(told);
            let mut tell = |text: &str| {
                let _heard = writeln!(told, "{text}").is_ok();
            };
            match mount::run(plan, &taken.coming, |_| tell("")) {
                Ok(()) => Ok(0),
                Err(error) => {
                    tell(&error.to_string().replace('\n', "; "));
                    Ok(1)
                }
            }
        }
        ForkResult::Parent { child } => {
            drop(told);
            let mut text = String::new();
            let mut word = BufReader::new(File::from(word));
            // The end of the file is told later: a process that stays behind has the other side too.
            word.read_line(&mut text).map_err(failed)?;
            match text.strip_suffix('\n') {
                Some("") => {}
                Some(why) => return Err(hinted(CommandError::new(why), why)),
                None => return Err(CommandError::new("the daemon ended before it had mounted")),
            }
            let at = plan.at.display();
            console::answer(format_args!("rfs: {at} is mounted, by process {child}"));
            let inside = place::cwd().is_ok_and(|cwd| cwd.starts_with(&plan.at));
            if inside {
                console::tell("this shell still sees what is below the mount: `cd .` brings it in");
            }
            Ok(0)
        }
    }
}

/// Takes away a mount whose daemon does not answer.
fn recover(entry: &Entry) -> Result<(), CommandError> {
    let at = entry.at.display();
    mount::take_away(&entry.at, Removal::Abort).map_err(|error| {
        CommandError::new(format_args!(
            "{at} is mounted by a daemon that does not answer, and cannot be unmounted: {error}"
        ))
        .hint(format_args!("as root: umount -f {at}; umount -l {at}"))
    })?;
    console::warn(
        format_args!("the daemon of {at} was gone: its mount is taken away and made anew"),
        None,
    );
    Ok(())
}

pub(super) fn umount(args: &Umount) -> Result<i32, CommandError> {
    let how = match (args.lazy, args.force) {
        (true, _) => How::Lazy,
        (_, true) => How::Force,
        (false, false) => How::Now,
    };
    let entries = named(&args.dirs)?;
    // Not to be in the way itself.
    let _nobodys = nix::unistd::chdir("/");
    for entry in &entries {
        remove(entry, how)?;
    }
    Ok(0)
}

fn remove(entry: &Entry, how: How) -> Result<(), CommandError> {
    let at = entry.at.display();
    let failed =
        |why: &dyn std::fmt::Display| CommandError::new(format_args!("cannot unmount {at}: {why}"));
    let begun = Instant::now();
    let (answer, daemon) = loop {
        let asked = Daemon::of(entry, runtime().as_deref())
            .and_then(|daemon| Ok((daemon.ask(&Ask::Remove(how))?.0, daemon)));
        match asked {
            // Somebody looks at what uses it, or at what did until a moment ago: that is use for the kernel.
            Ok((Answer::Busy(users), _)) if users.is_empty() && begun.elapsed() < MOMENT => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(asked) => break asked,
            Err(_) if is_gone(entry)? => return Ok(()),
            Err(_gone) => {
                mount::take_away(&entry.at, Removal::Abort).map_err(|error| failed(&error))?;
                console::warn(
                    format_args!("the daemon of {at} was gone: its mount is taken away"),
                    None,
                );
                return Ok(());
            }
        }
    };
    match answer {
        Answer::Done | Answer::Used => {
            // For the one, its last user may be about to leave; for the other, there is something to be written down.
            let patience = match answer == Answer::Used {
                true => Duration::from_secs(1),
                false => Duration::from_secs(60),
            };
            if !daemon.has_ended(patience) {
                console::tell(format_args!(
                    "{at} is unmounted here; its daemon goes on for those who still use it"
                ));
            }
            Ok(())
        }
        Answer::Busy(users) => {
            let users: Vec<_> = users
                .iter()
                .map(|(pid, name)| format!("{pid} ({name})"))
                .collect();
            let who = if users.is_empty() {
                "it is in use".to_owned()
            } else {
                format!("it is in use by {}", users.join(", "))
            };
            Err(failed(&who).hint("`--lazy` lets them go on, `--force` does not"))
        }
        Answer::Failed(why) => Err(failed(&why)),
        Answer::Status(_) => Err(failed(&"its daemon talks of something else")),
    }
}

/// What `--json` tells of a mount.
#[derive(Debug, Serialize)]
struct Told<'a> {
    schema: &'static str,
    at: &'a Path,
    workspace: &'a Path,
    uid: u32,
    /// Whether its daemon answers.
    alive: bool,
    pid: Option<i32>,
    seconds: Option<u64>,
    requests: Option<u64>,
    passthrough: Option<bool>,
    warnings: Vec<String>,
}

pub(super) fn tell(args: &StatusArgs) -> Result<i32, CommandError> {
    let entries = match args.dirs.is_empty() {
        true => table::all().map_err(unreadable)?,
        false => named(&args.dirs)?,
    };
    if entries.is_empty() && !args.json {
        console::answer("rfs: no workspace is mounted");
    }
    let mut dead = false;
    for entry in &entries {
        let status = status(entry);
        if status.is_err() && is_gone(entry)? {
            continue;
        }
        dead |= status.is_err();
        if args.json {
            let status = status.as_ref().ok();
            let told = Told {
                schema: "rfs.status/1",
                at: &entry.at,
                workspace: &entry.backing,
                uid: entry.uid,
                alive: status.is_some(),
                pid: status.map(|status| status.pid),
                seconds: status.map(|status| status.seconds),
                requests: status.map(|status| status.requests),
                passthrough: status.map(|status| status.passthrough),
                warnings: status.map_or_else(Vec::new, |status| status.warnings.clone()),
            };
            console::answer(serde_json::to_string(&told).expect("BUG: plain values make JSON"));
        } else {
            console::answer(line(entry, status.as_ref()));
        }
    }
    Ok(i32::from(dead))
}

fn line(entry: &Entry, status: Result<&Status, &io::Error>) -> String {
    let at = entry.at.display();
    let of = match entry.at == entry.backing {
        true => String::new(),
        false => format!(" (shows {})", entry.backing.display()),
    };
    match status {
        Ok(status) => {
            let way = match status.passthrough {
                true => "files by the kernel",
                false => "files by the daemon",
            };
            let since = duration::text(Duration::from_secs(status.seconds));
            let mut text = format!(
                "{at}{of}: mounted for {since} by process {}, user {}; {} requests, {way}",
                status.pid, entry.uid, status.requests
            );
            for warning in &status.warnings {
                text.push_str(&format!("\n  warning: {warning}"));
            }
            text
        }
        Err(error) => format!(
            "{at}{of}: its daemon does not answer ({error}): `rfs mount {at}` mounts it anew"
        ),
    }
}

fn status(entry: &Entry) -> io::Result<Status> {
    match Daemon::of(entry, runtime().as_deref())?
        .ask(&Ask::Status)?
        .0
    {
        Answer::Status(status) => Ok(status),
        Answer::Done | Answer::Used | Answer::Busy(_) | Answer::Failed(_) => {
            Err(io::ErrorKind::InvalidData.into())
        }
    }
}

/// The mounts that are meant by these directories: mounted there, showing them, or around them.
fn named(dirs: &[PathBuf]) -> Result<Vec<Entry>, CommandError> {
    let cwd = place::cwd()?;
    let all = table::all().map_err(unreadable)?;
    let find = |dir: &Path| -> Result<Entry, CommandError> {
        let dir = resolved(&cwd, dir)?;
        let by = |is: &dyn Fn(&Entry) -> bool| all.iter().rev().find(|entry| is(entry)).cloned();
        by(&|entry| entry.at == dir)
            .or_else(|| by(&|entry| entry.backing == dir))
            .or_else(|| by(&|entry| dir.starts_with(&entry.at)))
            .ok_or_else(|| {
                CommandError::new(format_args!("{} is not mounted by rfs", dir.display()))
                    .hint("`rfs status` tells what is")
            })
    };
    match dirs {
        [] => Ok(vec![find(&cwd)?]),
        dirs => dirs.iter().map(|dir| find(dir)).collect(),
    }
}

/// A path without symbolic links. Its last component is not opened: a dead mount cannot be.
fn resolved(cwd: &Path, path: &Path) -> Result<PathBuf, CommandError> {
    let path = cwd.join(path);
    let failed = |error: io::Error| {
        let error = CommandError::new(format_args!("{}: {error}", path.display()));
        error.hint("name a directory that is there and can be reached; `rfs status` lists mounts")
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "nothing is recorded of what a user names"
    )]
    let real = |path: &Path| std::fs::canonicalize(path);
    match (path.parent(), path.components().next_back()) {
        (Some(parent), Some(Component::Normal(name))) => {
            let there = real(parent).map_err(failed)?.join(name);
            match table::at(&there).map_err(failed)? {
                Some(entry) => Ok(entry.at),
                None => real(&there).map_err(failed),
            }
        }
        _ => real(&path).map_err(failed),
    }
}

pub(super) fn runtime() -> Option<PathBuf> {
    place::variable("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute())
}

pub(super) fn unreadable(error: io::Error) -> CommandError {
    CommandError::new(format_args!("cannot read the list of mounts: {error}"))
}

fn explained(error: mount::Error) -> CommandError {
    let text = error.to_string();
    hinted(CommandError::new(error), &text)
}

fn hinted(error: CommandError, text: &str) -> CommandError {
    if text.contains("user_allow_other") || text.contains("is not installed") {
        return error;
    }
    error.hint("`rfs doctor` tells what this machine lacks and how to get it")
}
