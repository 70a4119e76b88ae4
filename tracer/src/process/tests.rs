//! Children of this very process, sighted as traced ones are.

use super::*;
use crate::proc_files::CHILDREN;
use std::process::{Child, Command, Stdio};

fn processes() -> Processes {
    Processes::new(Arc::default()).unwrap()
}

fn cat() -> Child {
    Command::new("cat").stdin(Stdio::piped()).spawn().unwrap()
}

fn wait_until_gone(processes: &mut Processes) -> Vec<Death> {
    loop {
        let gone = processes.sweep();
        if !gone.is_empty() {
            return gone;
        }
        std::thread::yield_now();
    }
}

#[test]
fn threads_belong_to_their_process_and_children_to_their_parent() {
    let _alone = CHILDREN.write().unwrap_or_else(|e| e.into_inner());
    let mut processes = processes();
    let me = std::process::id() as Pid;
    let tid = nix::unistd::gettid().as_raw();
    assert_eq!(
        processes.sight(tid, &|| true).unwrap(),
        (me, vec![(me, None)])
    );
    assert_eq!(processes.known(tid), Some(me));
    let mut child = cat();
    let pid = child.id() as Pid;
    let kin = processes.adopt(me);
    assert!(kin.all.contains(&pid) && kin.births.contains(&(pid, Some(me))));
    assert!(processes.is_alive(pid));
    child.kill().unwrap();
    assert_eq!(
        wait_until_gone(&mut processes),
        [Death::Untold(pid, Some(libc::SIGKILL))]
    );
    assert_eq!((processes.lost(), processes.lost()), (vec![pid], vec![]));
    assert!(!processes.is_alive(pid) && processes.known(pid).is_none());
    child.wait().unwrap();
    assert!(processes.sight(pid, &|| true).is_err());
}

#[test]
fn a_death_waits_for_the_worker() {
    let _alone = CHILDREN.write().unwrap_or_else(|e| e.into_inner());
    let mut processes = processes();
    let mut child = cat();
    let pid = child.id() as Pid;
    processes.sight(pid, &|| true).unwrap();
    processes.get(pid).unwrap().busy = true;
    child.kill().unwrap();
    while processes.is_alive(pid) {
        assert_eq!(processes.sweep(), []);
    }
    let death = Death::Untold(pid, Some(libc::SIGKILL));
    assert_eq!(processes.idle(pid), Some(death));
    child.wait().unwrap();
    assert_eq!(processes.known(pid), None);
}

#[test]
fn an_end_that_was_told_is_no_death() {
    let _alone = CHILDREN.write().unwrap_or_else(|e| e.into_inner());
    let mut processes = processes();
    let mut child = cat();
    let pid = child.id() as Pid;
    processes.sight(pid, &|| true).unwrap();
    processes.get(pid).unwrap().end_told = true;
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(processes.sweep(), []);
    assert_eq!(processes.known(pid), None);
}

#[test]
fn a_child_that_was_killed_after_its_end_was_told_is_heard_of_by_its_parent() {
    let _alone = CHILDREN.write().unwrap_or_else(|e| e.into_inner());
    let me = std::process::id() as Pid;
    let tid = nix::unistd::gettid().as_raw();
    for waits in [false, true] {
        let mut processes = processes();
        processes.sight(tid, &|| true).unwrap();
        let mut child = cat();
        let pid = child.id() as Pid;
        assert_eq!(processes.adopt(me).births, [(pid, Some(me))]);
        processes.get(pid).unwrap().end_told = true;
        if waits {
            processes.waits(me);
        }
        child.kill().unwrap();
        let heard = Death::Heard(pid, me, libc::SIGKILL);
        if waits {
            assert_eq!(wait_until_gone(&mut processes), [heard]);
            assert_eq!(processes.adopt(me).deaths, [], "told already");
        } else {
            while processes.by_pid.contains_key(&pid) {
                assert_eq!(processes.sweep(), []);
            }
            assert_eq!(processes.adopt(me).deaths, [heard]);
        }
        assert_eq!(processes.heard(pid, me, libc::SIGKILL), None);
        child.wait().unwrap();
    }
}

#[test]
fn a_zombie_that_ended_as_was_told_is_not_born_again() {
    let _alone = CHILDREN.write().unwrap_or_else(|e| e.into_inner());
    let mut processes = processes();
    let me = std::process::id() as Pid;
    processes
        .sight(nix::unistd::gettid().as_raw(), &|| true)
        .unwrap();
    let mut child = Command::new("true").spawn().unwrap();
    let pid = child.id() as Pid;
    processes.sight(pid, &|| true).unwrap();
    processes.get(pid).unwrap().end_told = true;
    while processes.by_pid.contains_key(&pid) {
        assert_eq!(processes.sweep(), []);
    }
    let kin = processes.adopt(me);
    assert_eq!((kin.all, kin.births), (vec![pid], vec![]));
    assert_eq!(kin.deaths, []);
    child.wait().unwrap();
}

#[test]
fn nobody_is_taken_from_a_caller_that_is_gone() {
    let mut processes = processes();
    let tid = nix::unistd::gettid().as_raw();
    assert!(processes.sight(tid, &|| false).is_err());
    assert_eq!(processes.known(tid), None);
}
