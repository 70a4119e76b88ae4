//! Makes a sequence with a fault smaller while the fault stays.

use super::plan::Plan;
use super::tell::Fault;

/// So many smaller sequences are tried at most.
const N_TRIES: usize = 250;

/// Leaves out of `plan` what the fault does not need. `tell` tells a sequence.
pub fn shrink(
    mut plan: Plan,
    mut fault: Fault,
    tell: impl Fn(&Plan) -> Result<(), Fault>,
) -> (Plan, Fault) {
    let mut tries = 0;
    loop {
        plan.rounds.truncate(fault.round + 1);
        let Some((smaller, found)) = smaller(&plan).into_iter().find_map(|smaller| {
            tries += 1;
            let found = (tries <= N_TRIES).then(|| tell(&smaller).err()).flatten();
            found
                .filter(|found| found.sort == fault.sort)
                .map(|found| (smaller, found))
        }) else {
            return (plan, fault);
        };
        (plan, fault) = (smaller, found);
    }
}

/// Each sequence that is smaller by one thing, the largest things first.
fn smaller(plan: &Plan) -> Vec<Plan> {
    let mut all = Vec::new();
    let mut push = |change: &dyn Fn(&mut Plan)| {
        let mut plan = plan.clone();
        change(&mut plan);
        all.push(plan);
    };
    let n_pieces = plan.pieces.len();
    // Runs of pieces: halves, quarters and so on.
    let mut len = n_pieces / 2;
    while len > 1 {
        for from in (0..n_pieces).step_by(len) {
            push(&|plan| drop(plan.pieces.drain(from..n_pieces.min(from + len))));
        }
        len /= 2;
    }
    for n in 0..plan.rounds.len() {
        push(&|plan| drop(plan.rounds.remove(n)));
    }
    for n in 0..n_pieces {
        push(&|plan| drop(plan.pieces.remove(n)));
    }
    for n in 0..plan.rounds.len() {
        for edit in 0..plan.rounds[n].edits.len() {
            push(&|plan| drop(plan.rounds[n].edits.remove(edit)));
        }
    }
    if plan.setting != crate::space::Setting::default() {
        push(&|plan| plan.setting = crate::space::Setting::default());
    }
    if plan.merged {
        push(&|plan| plan.merged = false);
    }
    all
}
