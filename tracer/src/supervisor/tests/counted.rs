//! What a call that looks at a name costs from its stop to its event, in instructions of the unoptimised program: a
//! guard against work that grows.

use super::*;
use crate::regs::NATIVE;

#[path = "../../../../tests/instructions/mod.rs"]
mod instructions;

use instructions::{assert_each, times};

#[inline(never)]
fn counted_calls(supervisor: &Supervisor, calls: &[Call]) {
    for call in calls {
        let decision = supervisor.call(call, &|| true);
        assert!(
            matches!(decision, Decision::Now(Verdict::Go)),
            "{decision:?}"
        );
    }
}

#[test]
fn decode() {
    let mut rig = Rig::new();
    let names: Vec<u64> = (0..times())
        .map(|n| rig.name(&format!("absent-{n:04}.h")))
        .collect();
    let nr = libc::SYS_faccessat as u32;
    let call = |name: &u64| Call {
        tid: nix::unistd::gettid().as_raw(),
        abi: NATIVE,
        nr,
        args: [libc::AT_FDCWD as u64, *name, 0, 0, 0, 0],
    };
    let calls: Vec<Call> = names.iter().map(call).collect();
    counted_calls(&rig.supervisor, &calls);
    let told = rig.log.take();
    assert_eq!(told.len(), times());
    assert!(
        told.iter().all(|event| event.starts_with("access")),
        "{told:?}"
    );
}

#[test]
fn each_call_takes_so_many_instructions() {
    let _alone = CHILDREN.write().unwrap_or_else(|e| e.into_inner());
    assert_each("supervisor::tests::counted::decode", 50, 76_000);
}
