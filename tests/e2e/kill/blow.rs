//! The ways in which a build is struck.

use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::left::{self, Process};
use crate::dice::Dice;
use crate::run::Started;
use crate::space::TestSpace;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blow {
    /// `kill -9` of the process that the user started.
    Front,
    Host,
    /// A process of ours that has just been forked: host, reaper, or who becomes the command.
    Young,
    /// The same as `Host`, by the number of one of its threads.
    HostThread,
    Reaper,
    HostAndReaper,
    /// `kill -9` of the process group.
    Group,
    /// `pkill -9 rfs`: all that is ours, and nothing of the build.
    Ours,
    /// `kill -9` of all processes, one after the other.
    Everybody,
    /// `kill -9` of the command.
    Command,
    /// `kill -9` of any process of the build.
    Traced,
    /// The same of one that has threads, by the number of one of those that it has started.
    TracedThread,
    /// A process of the build is stopped, and the host killed.
    StoppedTraced,
    /// To the front alone.
    Term,
    Hangup,
    /// To the process group, as a terminal does.
    Interrupt,
    Quit,
    TermGroup,
    /// Ctrl-C, again and again.
    Storm,
}

pub const ALL: [Blow; 19] = [
    Blow::Front,
    Blow::Host,
    Blow::Young,
    Blow::HostThread,
    Blow::Reaper,
    Blow::HostAndReaper,
    Blow::Group,
    Blow::Ours,
    Blow::Everybody,
    Blow::Command,
    Blow::Traced,
    Blow::TracedThread,
    Blow::StoppedTraced,
    Blow::Term,
    Blow::Hangup,
    Blow::Interrupt,
    Blow::Quit,
    Blow::TermGroup,
    Blow::Storm,
];

/// Who is who in a build.
struct Cast {
    front: i32,
    hosts: Vec<Process>,
    reapers: Vec<Process>,
    /// Host, reaper or command, before it has a name of its own.
    young: Vec<Process>,
    traced: Vec<Process>,
}

impl Cast {
    fn of(s: &TestSpace, started: &Started) -> Self {
        let front = started.pid().as_raw();
        let mut cast = Self {
            front,
            hosts: Vec::new(),
            reapers: Vec::new(),
            young: Vec::new(),
            traced: Vec::new(),
        };
        for process in left::processes(s) {
            match process.name.as_str() {
                "rfs-host" if process.parent == front => cast.hosts.push(process),
                "rfs-reaper" => cast.reapers.push(process),
                "rfs" | "rfs-host" if process.pid != front => cast.young.push(process),
                "rfs" | "env" => {}
                _ => cast.traced.push(process),
            }
        }
        cast
    }
}

/// Strikes; whether somebody was there to be struck. Tells the connections that were seen.
pub fn strike(
    blow: Blow,
    s: &TestSpace,
    started: &Started,
    dice: &mut Dice,
    connections: &mut Vec<String>,
) -> bool {
    let cast = Cast::of(s, started);
    let seen = cast.traced.first();
    connections.extend(seen.and_then(|process| left::connection(s, process.pid)));
    let any = |dice: &mut Dice, from: &[Process]| {
        let n = u64::try_from(from.len()).unwrap();
        (n > 0).then(|| from[usize::try_from(dice.roll(n)).unwrap()].clone())
    };
    let slay = |process: Option<Process>| {
        process.is_some_and(|process| {
            left::is_there(s, &process) && send(process.pid, Signal::SIGKILL)
        })
    };
    let group = |signal| killpg(started.pid(), signal) == Ok(());
    match blow {
        Blow::Front => send(cast.front, Signal::SIGKILL),
        Blow::Host => slay(any(dice, &cast.hosts)),
        Blow::Young => strike_young(s, started, dice),
        Blow::HostThread => any(dice, &cast.hosts).is_some_and(|host| {
            let threads = threads(host.pid);
            let n = u64::try_from(threads.len()).unwrap();
            n > 0
                && left::is_there(s, &host)
                && send(
                    threads[usize::try_from(dice.roll(n)).unwrap()],
                    Signal::SIGKILL,
                )
        }),
        Blow::Reaper => slay(any(dice, &cast.reapers)),
        Blow::HostAndReaper => {
            let (host, reaper) = (any(dice, &cast.hosts), any(dice, &cast.reapers));
            let (one, other) = if dice.roll(2) == 0 {
                (host, reaper)
            } else {
                (reaper, host)
            };
            slay(one) & slay(other)
        }
        Blow::Group => group(Signal::SIGKILL),
        Blow::Ours => {
            let ours = [&cast.hosts, &cast.reapers, &cast.young];
            let ours = ours.into_iter().flatten().cloned();
            let n = ours.filter(|process| slay(Some(process.clone()))).count();
            send(cast.front, Signal::SIGKILL) && n > 0
        }
        Blow::Everybody => {
            let mut n = 0;
            for _ in 0..3 {
                for process in left::processes(s) {
                    n += u32::from(slay(Some(process)));
                }
            }
            n > 1
        }
        Blow::Command => {
            let command = cast.traced.iter().min_by_key(|process| process.pid);
            slay(command.cloned())
        }
        Blow::Traced => slay(any(dice, &cast.traced)),
        Blow::TracedThread => strike_thread(s, started, dice),
        Blow::StoppedTraced => {
            let (victim, host) = (any(dice, &cast.traced), any(dice, &cast.hosts));
            // Nobody would let it go on where there is no host yet.
            let stopped = victim.filter(|process| host.is_some() && left::is_there(s, process));
            stopped.is_some_and(|process| send(process.pid, Signal::SIGSTOP)) && slay(host)
        }
        Blow::Term => send(cast.front, Signal::SIGTERM),
        Blow::Hangup => send(cast.front, Signal::SIGHUP),
        Blow::Interrupt => group(Signal::SIGINT),
        Blow::Quit => group(Signal::SIGQUIT),
        Blow::TermGroup => group(Signal::SIGTERM),
        Blow::Storm => {
            let mut n = 0;
            for _ in 0..3 + dice.roll(8) {
                n += u32::from(group(Signal::SIGINT));
                thread::sleep(Duration::from_micros(dice.roll(6000)));
            }
            n > 0
        }
    }
}

/// Waits for a process of ours that has just been forked, as long as the build goes on, and kills it.
fn strike_young(s: &TestSpace, started: &Started, dice: &mut Dice) -> bool {
    let front = started.pid().as_raw();
    while goes_on(started) {
        // A look at all processes takes longer than they are young.
        let young: Vec<Process> = left::descendants(front)
            .into_iter()
            .filter(|process| match process.name.as_str() {
                "rfs" => true,
                "rfs-host" => process.parent != front,
                _ => false,
            })
            .collect();
        let n = u64::try_from(young.len()).unwrap();
        if n > 0 {
            let process = &young[usize::try_from(dice.roll(n)).unwrap()];
            return left::is_there(s, process) && send(process.pid, Signal::SIGKILL);
        }
    }
    false
}

fn goes_on(started: &Started) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
    waitid(Id::Pid(started.pid()), flags) == Ok(WaitStatus::StillAlive)
}

/// Waits for a program with threads, until the build is at its end, and kills it by the number of one.
fn strike_thread(s: &TestSpace, started: &Started, dice: &mut Dice) -> bool {
    while goes_on(started) {
        let cast = Cast::of(s, started);
        let others = cast.traced.iter().flat_map(|process| {
            let all = threads(process.pid).into_iter();
            let others = all.filter(|tid| *tid != process.pid);
            others.map(|tid| (process.clone(), tid)).collect::<Vec<_>>()
        });
        let others: Vec<_> = others.collect();
        let n = u64::try_from(others.len()).unwrap();
        if n > 0 {
            let (process, tid) = &others[usize::try_from(dice.roll(n)).unwrap()];
            // It has its threads for longer.
            thread::sleep(Duration::from_millis(dice.roll(100)));
            return left::is_there(s, process) && send(*tid, Signal::SIGKILL);
        }
    }
    false
}

/// The threads of a process, ascending; none when it is gone.
fn threads(pid: i32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    let tasks = tasks.into_iter().flatten();
    let mut threads: Vec<i32> = tasks
        .filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    threads.sort_unstable();
    threads
}

fn send(pid: i32, signal: Signal) -> bool {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) => true,
        Err(Errno::ESRCH) => false,
        Err(errno) => panic!("kill {pid}: {errno}"),
    }
}
