//! Runs the programs as the kernel would and compares them with the rules that they were made from.

use super::*;

/// What the kernel gives the program: `struct seccomp_data`.
struct Data {
    arch: u32,
    nr: u32,
    args: [u64; 6],
}

/// Runs a program as the kernel would; also says whether anything but arch and nr was loaded.
fn run(program: &[Insn], data: &Data) -> (u32, bool) {
    let mut image = Vec::new();
    image.extend(data.nr.to_le_bytes());
    image.extend(data.arch.to_le_bytes());
    image.extend(0xdead_beef_u64.to_le_bytes());
    data.args.iter().for_each(|a| image.extend(a.to_le_bytes()));
    let (mut pc, mut acc, mut looked) = (0, 0, false);
    loop {
        let insn = program[pc];
        pc += 1;
        let take = |holds: bool| usize::from(if holds { insn.jt } else { insn.jf });
        match insn.code {
            LD_W_ABS => {
                let at = insn.k as usize;
                assert_eq!(at % 4, 0);
                acc = u32::from_le_bytes(image[at..at + 4].try_into().unwrap());
                looked |= insn.k > AT_ARCH;
            }
            JA => pc += insn.k as usize,
            JEQ => pc += take(acc == insn.k),
            JGT => pc += take(acc > insn.k),
            JGE => pc += take(acc >= insn.k),
            JSET => pc += take(acc & insn.k != 0),
            RET => return (insn.k, looked),
            other => panic!("operation {other:#x} is not one that seccomp takes"),
        }
    }
}

const TESTS: [Test; 9] = [
    Test::ArgAtMost(0, 9),
    Test::ArgIs(1, 1030),
    Test::ArgNonZero(2),
    Test::ArgHasBits(3, 0x1000),
    Test::ArgLacksBits(3, 0x1001),
    Test::Any(&[
        Test::ArgIs(1, 0),
        Test::ArgIs(1, 1030),
        Test::ArgAtMost(0, 1),
    ]),
    Test::All(&[
        Test::ArgIs(1, 1030),
        Test::ArgAtMost(0, 2),
        Test::ArgNonZero(2),
    ]),
    Test::All(&[
        Test::Any(&[Test::ArgIs(1, 0), Test::ArgIs(1, 1030)]),
        Test::ArgAtMost(0, 2),
        Test::Any(&[Test::ArgNonZero(2), Test::ArgHasBits(3, 1)]),
    ]),
    Test::Any(&[
        Test::All(&[Test::ArgNonZero(2), Test::ArgAtMost(0, 2)]),
        Test::All(&[]),
        Test::Any(&[]),
    ]),
];

/// Treatments of all kinds over a span of numbers with gaps.
fn rows(seed: u32) -> Vec<(u32, Treatment)> {
    (0..470u32)
        .filter(|nr| nr % 37 != 5)
        .map(|nr| {
            let mix = (nr ^ seed).wrapping_mul(2_654_435_761) >> 16;
            let treatment = match mix % 8 {
                0..4 => Treatment::Allow,
                4..6 => Treatment::Trap,
                6 => Treatment::Enosys,
                _ => Treatment::TrapIf(TESTS[nr as usize % TESTS.len()]),
            };
            (nr, treatment)
        })
        .collect()
}

/// Arguments on both sides of every test above, with high halves that must or must not count.
fn arguments() -> Vec<[u64; 6]> {
    let mut all = Vec::new();
    for fd in [0, 1, 2, 9, 10, 0xffff_ffff, 0x1_0000_0001] {
        for cmd in [0, 1030, 0x2_0000_0406] {
            for third in [0, 1, 0x1_0000_0000] {
                for flags in [0, 1, 0x1000, 0x7_0000_1000] {
                    all.push([fd, cmd, third, flags, 0, 0]);
                }
            }
        }
    }
    all
}

fn expected(treatment: Option<Treatment>, args: &[u64; 6], trap: u32) -> u32 {
    match treatment {
        None | Some(Treatment::Trap) => trap,
        Some(Treatment::Allow) => RET_ALLOW,
        Some(Treatment::Enosys) => RET_ERRNO | ENOSYS,
        Some(Treatment::TrapIf(test)) if test.holds(args) => trap,
        Some(Treatment::TrapIf(_)) => RET_ALLOW,
    }
}

fn check(tables: &[Table], action: Action, trap: u32) {
    let program = program(tables, action, None).unwrap();
    assert!(program.len() < 3000, "{} instructions", program.len());
    let args = arguments();
    let kinds = [
        (AUDIT_ARCH_X86_64, 0),
        (AUDIT_ARCH_X86_64, X32_BIT),
        (AUDIT_ARCH_I386, 0),
        (AUDIT_ARCH_AARCH64, 0),
        (AUDIT_ARCH_ARM, 0),
        (0x8000_0016, 0),
    ];
    let numbers = (0..600).chain([0x3fff_ffff]);
    for nr in numbers {
        for (arch, bit) in kinds {
            let (abi, plain) = abi_of(arch, nr | bit);
            assert_eq!(plain, nr);
            let treatment = tables
                .iter()
                .filter(|t| t.abi == abi)
                .find_map(|t| t.rows.iter().find(|r| r.0 == nr).map(|r| r.1));
            for &args in &args {
                let (result, looked) = run(
                    &program,
                    &Data {
                        arch,
                        nr: nr | bit,
                        args,
                    },
                );
                assert_eq!(
                    result,
                    expected(treatment, &args, trap),
                    "{abi:?} {nr} {args:x?}"
                );
                if !matches!(treatment, Some(Treatment::TrapIf(_))) {
                    assert!(
                        !looked,
                        "{abi:?} {nr}: the kernel could not cache this decision"
                    );
                }
            }
        }
    }
}

#[test]
fn x86_64_with_both_other_tables() {
    let tables = [
        Table {
            abi: Abi::X86_64,
            rows: rows(1),
        },
        Table {
            abi: Abi::I386,
            rows: rows(2),
        },
        Table {
            abi: Abi::X32,
            rows: rows(3),
        },
    ];
    check(&tables, Action::Notify, RET_USER_NOTIF);
}

#[test]
fn x86_64_alone_traps_what_has_no_table() {
    check(
        &[Table {
            abi: Abi::X86_64,
            rows: rows(4),
        }],
        Action::Trace,
        RET_TRACE,
    );
}

#[test]
fn aarch64() {
    let tables = [
        Table {
            abi: Abi::Aarch64,
            rows: rows(5),
        },
        Table {
            abi: Abi::Arm,
            rows: rows(6),
        },
    ];
    check(&tables, Action::Notify, RET_USER_NOTIF);
}

#[test]
fn no_table_traps_everything() {
    check(&[], Action::Notify, RET_USER_NOTIF);
    check(
        &[Table {
            abi: Abi::X86_64,
            rows: vec![],
        }],
        Action::Notify,
        RET_USER_NOTIF,
    );
}

#[test]
fn highest_number_and_first_of_equal_rows() {
    let rows = vec![
        (!X32_BIT, Treatment::Trap),
        (7, Treatment::Allow),
        (7, Treatment::Trap),
        (0x3fff_ffff, Treatment::Allow),
    ];
    let program = program(
        &[Table {
            abi: Abi::I386,
            rows,
        }],
        Action::Trace,
        None,
    )
    .unwrap();
    let result = |nr| {
        run(
            &program,
            &Data {
                arch: AUDIT_ARCH_I386,
                nr,
                args: [0; 6],
            },
        )
        .0
    };
    assert_eq!(result(7), RET_ALLOW);
    assert_eq!(result(8), RET_TRACE);
    assert_eq!(result(0x3fff_ffff), RET_ALLOW);
    assert_eq!(result(0x4000_0000), RET_TRACE);
    assert_eq!(result(u32::MAX), RET_TRACE);
}

#[test]
fn cookie_passes_only_its_calls() {
    let test = Test::ArgAtMost(0, 9);
    let rows = vec![
        (46, Treatment::TrapIf(test)),
        (59, Treatment::Trap),
        (60, Treatment::Trap),
    ];
    let tables = [
        Table {
            abi: Abi::X86_64,
            rows: rows.clone(),
        },
        Table {
            abi: Abi::I386,
            rows,
        },
    ];
    let cookie = 0x1234_5678_9abc_def0;
    let calls = vec![
        (Abi::X86_64, 46),
        (Abi::X86_64, 59),
        (Abi::X86_64, 999),
        (Abi::I386, 59),
    ];
    let pass = Pass { cookie, calls };
    let program = program(&tables, Action::Notify, Some(&pass)).unwrap();
    let result = |arch, nr, fd, last| {
        run(
            &program,
            &Data {
                arch,
                nr,
                args: [fd, 0, 0, 0, 0, last],
            },
        )
        .0
    };
    for fd in [0, 9] {
        assert_eq!(result(AUDIT_ARCH_X86_64, 46, fd, cookie), RET_ALLOW);
        assert_eq!(
            result(AUDIT_ARCH_X86_64, 46, fd, cookie ^ 1),
            RET_USER_NOTIF
        );
        assert_eq!(
            result(AUDIT_ARCH_X86_64, 46, fd, cookie ^ (1 << 63)),
            RET_USER_NOTIF
        );
    }
    assert_eq!(result(AUDIT_ARCH_X86_64, 46, 10, 0), RET_ALLOW);
    assert_eq!(result(AUDIT_ARCH_X86_64, 59, 0, cookie), RET_ALLOW);
    assert_eq!(result(AUDIT_ARCH_X86_64, 60, 0, cookie), RET_USER_NOTIF);
    assert_eq!(result(AUDIT_ARCH_X86_64, 999, 0, cookie), RET_ALLOW);
    assert_eq!(result(AUDIT_ARCH_X86_64, 999, 0, 0), RET_USER_NOTIF);
    assert_eq!(
        result(AUDIT_ARCH_I386, 59, 0, cookie & 0xffff_ffff),
        RET_ALLOW
    );
    assert_eq!(
        result(AUDIT_ARCH_I386, 60, 0, cookie & 0xffff_ffff),
        RET_USER_NOTIF
    );
}

#[test]
fn what_cannot_be_said_is_an_error() {
    let refused = |test| {
        let rows = vec![(1, Treatment::TrapIf(test))];
        program(
            &[Table {
                abi: Abi::X86_64,
                rows,
            }],
            Action::Notify,
            None,
        )
    };
    assert!(matches!(
        refused(Test::ArgNonZero(6)),
        Err(Error::Test { nr: 1, .. })
    ));
    const MANY: [Test; 200] = [Test::ArgIs(0, 1); 200];
    assert!(matches!(
        refused(Test::Any(&MANY)),
        Err(Error::Test { nr: 1, .. })
    ));
    let rows = (0..3000).map(|nr| (nr, [Treatment::Trap, Treatment::Allow][nr as usize % 2]));
    let table = Table {
        abi: Abi::Arm,
        rows: rows.collect(),
    };
    assert!(matches!(
        program(&[table], Action::Notify, None),
        Err(Error::TooLong(_))
    ));
    let table = Table {
        abi: Abi::Unknown(7),
        rows: vec![],
    };
    assert!(matches!(
        program(&[table], Action::Notify, None),
        Err(Error::Abi(_))
    ));
}
