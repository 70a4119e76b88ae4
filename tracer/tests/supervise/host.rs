//! A supervising process with a decider that does what the end of a program's path says: `/exit/7`, `/kill/15`,
//! `/fail/13`, `/late/7` (worked out on a worker), `/back/7` (attached to, then let go), `/panic/0`.

use nix::sched::CloneFlags;
use nix::sys::signal::SigSet;
use rfs_tracer::Ended;
use rfs_tracer::call::{Abi, Call, Decide, Decision, Verdict};
use rfs_tracer::filter::{Table, Test, Treatment};
use rfs_tracer::memory;
use rfs_tracer::spawn::{Backend, Error, Launch, launch};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

const NATIVE: Abi = if cfg!(target_arch = "aarch64") {
    Abi::Aarch64
} else {
    Abi::X86_64
};

/// What traps: `few` calls as in a real table, or `all` of them.
fn tables(which: &str) -> Vec<Table> {
    let traps = [
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_openat,
        libc::SYS_newfstatat,
        libc::SYS_exit_group,
        libc::SYS_sendmsg,
    ];
    let row = |nr: u32| match i64::from(nr) {
        libc::SYS_io_uring_setup => (nr, Treatment::Enosys),
        libc::SYS_write => (nr, Treatment::TrapIf(Test::ArgAtMost(0, 9))),
        call if traps.contains(&call) => (nr, Treatment::Trap),
        _ => (nr, Treatment::Allow),
    };
    match which {
        "few" => vec![Table {
            abi: NATIVE,
            rows: (0..470).map(row).collect(),
        }],
        _ => vec![Table {
            abi: NATIVE,
            rows: Vec::new(),
        }],
    }
}

struct Verbs {
    log: Option<File>,
}

impl Verbs {
    fn note(&self, line: &str) {
        if let Some(mut log) = self.log.as_ref() {
            log.write_all(format!("{line}\n").as_bytes()).unwrap();
        }
    }
}

impl Decide for Verbs {
    fn call(&self, call: &Call, still_there: &dyn Fn() -> bool) -> Decision {
        let execve = match call.abi {
            Abi::I386 => 11,
            Abi::X86_64 | Abi::X32 | Abi::Aarch64 | Abi::Arm | Abi::Unknown(_) => libc::SYS_execve,
        };
        if i64::from(call.nr) != execve {
            self.note(&format!("{} call {}", call.tid, call.nr));
            return Decision::Now(Verdict::Go);
        }
        let path = memory::c_str(call.tid, call.args[0], 4096);
        if !still_there() {
            return Decision::Now(Verdict::Go);
        }
        let path = String::from_utf8(path.unwrap()).unwrap();
        self.note(&format!("{} execve {path}", call.tid));
        if path.ends_with("/cat") {
            return Decision::Later(Box::new(|_| Verdict::Go));
        }
        let (dir, value) = path.rsplit_once('/').unwrap_or_default();
        let (_, verb) = dir.rsplit_once('/').unwrap_or_default();
        let Ok(value) = value.parse::<i32>() else {
            return Decision::Now(Verdict::Go);
        };
        match verb {
            "exit" => Decision::Now(Verdict::Exit(value)),
            "kill" => Decision::Now(Verdict::Signal(value)),
            "fail" => Decision::Now(Verdict::Fail(value)),
            "panic" => panic!("on purpose"),
            "late" => Decision::Later(Box::new(move |stop| {
                assert!(stop.ready_to_exit() && stop.still_there());
                Verdict::Exit(value)
            })),
            "flood" => {
                let stdout = format!("/proc/{}/fd/1", call.tid);
                Decision::Later(Box::new(move |stop| {
                    assert!(stop.ready_to_exit());
                    let mut stdout = OpenOptions::new().write(true).open(stdout).unwrap();
                    stdout.write_all(&[b'x'; 300_000]).unwrap();
                    Verdict::Exit(value)
                }))
            }
            "hold" => Decision::Later(Box::new(move |stop| {
                while stop.still_there() {
                    std::thread::yield_now();
                }
                Verdict::Exit(value)
            })),
            "back" => Decision::Later(Box::new(|stop| {
                assert!(stop.ready_to_exit());
                Verdict::Go
            })),
            "backfail" => Decision::Later(Box::new(move |stop| {
                assert!(stop.ready_to_exit());
                Verdict::Fail(value)
            })),
            _ => Decision::Now(Verdict::Go),
        }
    }
}

/// A user namespace of its own, in which the user keeps the ids.
fn enter_namespaces() -> io::Result<()> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    nix::sched::unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
}

/// `BACKEND TABLES LOG COMMAND...`, or `probe`
pub fn main(arguments: &[String]) -> ExitCode {
    if arguments == ["probe"] {
        let found = rfs_tracer::probe::probe();
        let errno =
            |ability: io::Result<()>| ability.map_or_else(|e| e.raw_os_error(), |()| Some(0));
        let all = [
            found.notify,
            found.sync_wake_up,
            found.wait_killable,
            found.ptrace,
        ];
        println!("{:?} {:?}", all.map(errno), errno(found.pidfd_getfd));
        return ExitCode::SUCCESS;
    }
    let [backend, which, log, command @ ..] = arguments else {
        panic!("{arguments:?}")
    };
    let backend = match backend.as_str() {
        "notify" => Backend::Notify,
        "ptrace" => Backend::Ptrace,
        _ => Backend::Auto,
    };
    let mask = SigSet::thread_get_mask().unwrap();
    // As a real host does: the terminal's signals are the command's business.
    SigSet::all().thread_block().unwrap();
    let launched = launch(
        Launch {
            argv: command.iter().map(Into::into).collect(),
            env: std::env::vars_os().collect(),
            cwd: std::env::current_dir().unwrap(),
            mask,
            backend,
            tables: tables(which),
            pass: vec![],
        },
        || match std::env::var("PREPARE").as_deref() {
            Ok("fails") => Err(io::Error::other("no view to be had")),
            Ok("namespaces") => enter_namespaces(),
            _ => Ok(()),
        },
    );
    let open = |path| {
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .unwrap()
    };
    let log = (!log.is_empty()).then(|| open(log));
    let decide = Arc::new(Verbs { log });
    let ended = launched
        .and_then(|l| l.attach(decide))
        .and_then(|mut running| {
            let ended = running.wait();
            if std::env::var_os("TELL").is_some() {
                println!("ended");
            }
            running.drain();
            ended
        });
    match ended {
        Ok(Ended::Exit(status)) => ExitCode::from(status as u8),
        Ok(Ended::Signal(signal)) => {
            println!("signal {signal}");
            ExitCode::from(128 + signal as u8)
        }
        Err(error) => {
            eprintln!("host: {error}");
            if matches!(error, Error::Exec { .. }) {
                println!("not executed");
            }
            ExitCode::from(error.status() as u8)
        }
    }
}
