//! What a process has used and where it may run, from proc(5), at the moment of its end: it is still there,
//! and its parent cannot know yet.

use super::Watch;
use super::model::Model;
use crate::base::{Cost, Placement};
use nix::time::{ClockId, clock_gettime};
use rfs_tracer::event::{Exec, Pid};
use std::fs::File;
use std::io::Read;

/// Of a small tool that took less processor time than this nothing else is asked: most are brief, and what the
/// kernel tells of them costs more than all the rest of their end.
const BRIEF_US: u64 = 5000;

/// A process at its end.
#[derive(Debug, Clone, Default)]
pub(super) struct Usage {
    /// Its own; no time from start to end.
    pub cost: Cost,
    /// Where it ran.
    pub placement: Placement,
    /// Whether it runs as another user than root in one of its ids.
    pub not_root: bool,
    /// Whether it ignores the ends of its children: nobody can wait for them.
    pub ignores_ends: bool,
}

/// Whether a mask of signals, as status files show it, holds `SIGCHLD`.
fn holds_ends(mask: &str) -> bool {
    u64::from_str_radix(mask, 16).is_ok_and(ignores_ends)
}

fn ignores_ends(mask: u64) -> bool {
    mask & (1 << (libc::SIGCHLD - 1)) != 0
}

impl Usage {
    /// Of a process that is about to exit. `is_small`: it runs a small tool as a part of a step, where it counts
    /// for little if it was brief.
    pub(super) fn of(pid: Pid, is_small: bool) -> Self {
        let cpu_us = cpu_us(pid);
        let is_brief = is_small && cpu_us < BRIEF_US;
        if let Some(users) = is_brief.then(|| rfs_tracer::users(pid)).flatten() {
            let mut usage = Self::default();
            usage.cost.cpu_us = cpu_us;
            usage.not_root = users.iter().any(|id| *id != 0);
            return usage;
        }
        let status = text(&format!("/proc/{pid}/status"));
        let stat = text(&format!("/proc/{pid}/stat"));
        let mut usage = Self::parse(&status, &stat);
        usage.cost.cpu_us = cpu_us;
        if usage.cost.switches == 0 {
            usage.cost.switches = switches_of_threads(pid);
        }
        usage
    }

    /// Of a process that has done nothing of its own but to ask for a program, which is served in its place.
    pub(super) fn of_asker(exec: &Exec) -> Self {
        let [real, effective, ..] = exec.ids;
        let mut usage = Self {
            not_root: real != 0 || effective != 0,
            ignores_ends: ignores_ends(exec.ignored),
            ..Self::default()
        };
        usage.cost.cpu_us = cpu_us(exec.pid);
        usage
    }

    /// Context switches are left at 0 where other threads have some as well.
    fn parse(status: &str, stat: &str) -> Self {
        let mut usage = Self::default();
        let mut threads = 1;
        for line in status.lines() {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            let value = value.trim();
            let number = || -> u64 {
                let digits = value.split(' ').next().unwrap_or_default();
                digits.parse().unwrap_or(0)
            };
            match name {
                "Uid" => usage.not_root = value.split_whitespace().any(|id| id != "0"),
                "SigIgn" => usage.ignores_ends = holds_ends(value),
                "VmHWM" => usage.cost.peak_bytes = number() * 1024,
                "Threads" => threads = number(),
                "Cpus_allowed_list" => value.clone_into(&mut usage.placement.cpus),
                "Mems_allowed_list" => value.clone_into(&mut usage.placement.nodes),
                "voluntary_ctxt_switches" | "nonvoluntary_ctxt_switches" if threads == 1 => {
                    usage.cost.switches += number();
                }
                _ => {}
            }
        }
        // The name of the program, in parentheses, may hold anything.
        let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let field = |number: usize| fields.split(' ').nth(number - 3)?.parse::<u64>().ok();
        usage.cost.major_faults = field(12).unwrap_or(0);
        usage.placement.cpu = field(39).and_then(|cpu| cpu.try_into().ok()).unwrap_or(0);
        usage
    }
}

/// A file of proc(5): it does not tell its size, so most are read in one go.
fn text(path: &str) -> String {
    let mut bytes = Vec::with_capacity(4096);
    // A bound keeps the library from asking for the size.
    let read = File::open(path).and_then(|file| file.take(u64::MAX).read_to_end(&mut bytes));
    drop(read);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The processor time of a process, all threads, in microseconds; 0 when it is gone.
pub(super) fn cpu_us(pid: Pid) -> u64 {
    // What clock_getcpuclockid(3) makes of a process id.
    let clock = ClockId::from_raw(!pid << 3 | 2);
    clock_gettime(clock).map_or(0, |time| {
        u64::try_from(time.tv_sec() * 1_000_000 + time.tv_nsec() / 1000).unwrap_or(0)
    })
}

fn switches_of_threads(pid: Pid) -> u64 {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return 0;
    };
    let status =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok());
    let switches = |text: String| -> u64 {
        let lines = text
            .lines()
            .filter_map(|line| line.split_once("ctxt_switches:"));
        lines
            .filter_map(|(_, number)| number.trim().parse::<u64>().ok())
            .sum()
    };
    status.map(switches).sum()
}

impl Watch {
    /// Counts a process that has ended in for its step and all around it.
    pub(super) fn count_in(&self, model: &mut Model, at: usize, pid: Pid, used: &Usage) {
        model.steps[at].cost.own_bytes = model.steps[at].cost.own_bytes.max(used.cost.peak_bytes);
        model.up(at, |step| {
            let mut cost = used.cost;
            if step.pid == pid {
                cost.cpu_us = cost.cpu_us.saturating_sub(step.cpu_before);
                let asked = step.placement.asked.take();
                step.placement.clone_from(&used.placement);
                step.placement.asked = asked;
            }
            step.cost.add(&cost);
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_at_its_end() {
        let status = "Name:\ta) 1 (b\nUid:\t0\t0\t1\t0\nVmHWM:\t    12 kB\nThreads:\t1\n\
                      SigBlk:\t0000000000010000\nSigIgn:\t0000000000011000\n\
                      Cpus_allowed_list:\t0-1,4\nMems_allowed_list:\t0\n\
                      voluntary_ctxt_switches:\t3\nnonvoluntary_ctxt_switches:\t4\n";
        let mut stat = "7 (a) 1 (b) R 2 3 4 5 6 7 8 9 77 11 12".to_owned();
        (15..39).for_each(|_| stat.push_str(" 0"));
        stat.push_str(" 6 0 0");
        let usage = Usage::parse(status, &stat);
        assert_eq!(usage.cost.peak_bytes, 12 << 10);
        assert_eq!((usage.cost.switches, usage.cost.major_faults), (7, 77));
        assert_eq!(usage.placement.cpus, "0-1,4");
        assert_eq!(usage.placement.cpu, 6);
        assert!(usage.not_root && usage.ignores_ends);
        let usage = Usage::parse("SigIgn:\tfffffffffffeffff\n", "");
        assert!(!usage.ignores_ends);
    }

    #[test]
    fn this_process() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let before = cpu_us(pid);
        let pages = std::hint::black_box(vec![1_u8; 40 << 20]);
        let usage = Usage::of(pid, false);
        assert!(usage.cost.peak_bytes > 40 << 20, "{usage:?}");
        assert!(usage.cost.cpu_us > before && before > 0, "{usage:?}");
        assert!(usage.cost.switches > 0, "{usage:?}");
        assert_eq!(pages.len(), 40 << 20);
        assert_eq!(cpu_us(99_999_999), 0);
    }
}
