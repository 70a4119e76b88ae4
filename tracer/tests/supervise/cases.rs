//! What must hold of a supervised command.

use crate::outside::{Host, Started, eventually, is, path, public_dir, said, state};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};

/// A case runs for every backend and user.
pub type Case = fn(&Host);

macro_rules! cases {
    ($($name:ident)*) => { pub const ALL: &[(&str, Case)] = &[$((stringify!($name), $name)),*]; };
}

cases! {
    uses_the_backend_asked_for
    says_when_it_is_inside_another
    finds_out_what_is_allowed
    runs_and_returns_the_status
    asks_about_the_execve_first
    says_why_it_could_not_execute
    searches_the_path
    tells_a_failed_preparation
    works_in_namespaces
    treats_each_call_by_its_rule
    leaves_the_process_as_it_found_it
    keeps_set_user_id_for_root
    ends_the_command_itself
    ends_forked_children
    ends_make_recipes
    ends_python_children
    ends_callers_of_32_bit_calls
    kills_in_place_of_the_call
    fails_the_call
    can_trap_every_call
    is_not_held_up_by_a_blocked_worker
    is_not_held_up_by_a_killed_caller
    lets_threads_execute
    lets_stop_and_continue_through
    lets_signals_through
    ends_with_an_interrupt_from_the_terminal
    waits_for_orphans
    leaves_nothing_behind_a_dead_host
}

fn uses_the_backend_asked_for(host: &Host) {
    let (status, tracer) = host.sh("grep TracerPid /proc/self/status");
    assert_eq!(
        (status, tracer.ends_with("\t0\n")),
        (0, host.backend == "notify"),
        "{tracer}"
    );
}

fn says_when_it_is_inside_another(host: &Host) {
    let inner = |backend| {
        let program = path(host.program());
        host.run(&[program, "host", backend, "few", "", "sh", "-c", "exit 7"])
    };
    // A listener hides what it is told about from every tracer: there is nothing to fall back to.
    let (auto, ptrace) = if host.backend == "notify" {
        (125, 125)
    } else {
        (7, 125)
    };
    assert_eq!(inner("auto"), is(auto, ""));
    assert_eq!(inner("ptrace"), is(ptrace, ""));
    assert_eq!(inner("notify"), is(auto, ""));
}

fn finds_out_what_is_allowed(host: &Host) {
    let probe = |runner: &dyn Fn(&[&str]) -> (i32, String)| {
        let (status, output) = runner(&[path(host.program()), "host", "probe"]);
        assert_eq!(status, 0);
        output
    };
    let bare = |words: &[&str]| {
        let mut command = Command::new(words[0]);
        host.become_user(command.args(&words[1..]));
        said(command.output().unwrap())
    };
    assert_eq!(
        probe(&bare),
        "[Some(0), Some(0), Some(0), Some(0)] Some(0)\n"
    );
    let inside = match host.backend {
        "notify" => "[Some(16), Some(16), Some(16), Some(0)] Some(0)\n",
        _ => "[Some(0), Some(0), Some(0), Some(1)] Some(0)\n",
    };
    assert_eq!(probe(&|words| host.run(words)), inside);
}

fn runs_and_returns_the_status(host: &Host) {
    assert_eq!(host.sh("echo hello"), is(0, "hello\n"));
    assert_eq!(host.sh("exit 9"), is(9, ""));
    assert_eq!(host.sh("kill -SEGV $$"), is(139, "signal 11\n"));
    assert_eq!(host.sh("kill -40 $$"), is(168, "signal 40\n"));
    let script = "/bin/echo a; (/bin/echo b); /bin/sh -c 'exit 4'";
    assert_eq!(host.sh(script), is(4, "a\nb\n"));
}

fn asks_about_the_execve_first(host: &Host) {
    for tables in ["few", "all"] {
        let dir = public_dir();
        let log = dir.path().join("log");
        let mut command = host.with(tables).logging(path(&log), &["/bin/true"]);
        assert_eq!(said(command.output().unwrap()), is(0, ""));
        let log = fs::read_to_string(log).unwrap();
        assert!(
            log.lines().next().unwrap().ends_with(" execve /bin/true"),
            "{log}"
        );
        let end = format!(" call {}", libc::SYS_exit_group);
        assert!(log.lines().last().unwrap().ends_with(&end), "{log}");
    }
}

fn says_why_it_could_not_execute(host: &Host) {
    assert_eq!(host.run(&["/no/such/program"]), is(127, "not executed\n"));
    assert_eq!(host.run(&["no-such-program"]), is(127, "not executed\n"));
    assert_eq!(host.run(&[""]), is(127, "not executed\n"));
    assert_eq!(host.run(&["/etc/passwd"]), is(126, "not executed\n"));
    assert_eq!(host.run(&["/etc"]), is(126, "not executed\n"));
}

fn program(path: &Path, text: &str, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn searches_the_path(host: &Host) {
    let dir = public_dir();
    program(&dir.path().join("a/tool"), "", 0o644);
    program(&dir.path().join("b/tool"), "#!/bin/sh\necho b $1", 0o755);
    program(&dir.path().join("c/tool"), "echo c $1", 0o755);
    let run = |dirs: &str| {
        let list = dirs.split(' ').map(|d| format!("{}/{d}", path(dir.path())));
        let list = list.collect::<Vec<_>>().join(":");
        said(
            host.command(&["tool", "x"])
                .env("PATH", list)
                .output()
                .unwrap(),
        )
    };
    assert_eq!(run("none a b"), is(0, "b x\n"));
    assert_eq!(run("c b"), is(0, "c x\n"));
    assert_eq!(run("a none"), is(126, "not executed\n"));
    assert_eq!(run("none"), is(127, "not executed\n"));
}

fn tells_a_failed_preparation(host: &Host) {
    let output = host
        .command(&["/bin/true"])
        .env("PREPARE", "fails")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "host: no view to be had\n"
    );
}

fn works_in_namespaces(host: &Host) {
    let script = "readlink /proc/self/ns/user; grep NoNewPrivs /proc/self/status; exec /late/7";
    let mut command = host.command(&["sh", "-c", script]);
    let (status, output) = said(command.env("PREPARE", "namespaces").output().unwrap());
    let own = fs::read_link("/proc/self/ns/user").unwrap();
    let (namespace, rest) = output.split_once('\n').unwrap();
    assert_ne!(namespace, path(&own));
    // Its owner may install the filter without giving up set-user-ID programs.
    assert_eq!((status, rest), (7, "NoNewPrivs:\t0\n"));
}

fn treats_each_call_by_its_rule(host: &Host) {
    let dir = public_dir();
    let log = dir.path().join("log");
    let script = "
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
assert libc.syscall(425, 1, 0) == -1 and ctypes.get_errno() == 38
null = os.open('/dev/null', os.O_WRONLY)
for fd in (9, 10, 11):
    os.dup2(null, fd)
    os.write(fd, b'x')
os.write(9, b'x')
";
    let mut command = host.logging(path(&log), &["/usr/bin/python3", "-S", "-c", script]);
    assert_eq!(said(command.output().unwrap()), is(0, ""));
    let log = fs::read_to_string(log).unwrap();
    let told = |call| {
        log.lines()
            .filter(|line| line.ends_with(&format!(" call {call}")))
            .count()
    };
    assert_eq!([told(libc::SYS_write), told(libc::SYS_exit_group)], [2, 1]);
    assert_eq!(told(libc::SYS_io_uring_setup), 0);
}

fn leaves_the_process_as_it_found_it(host: &Host) {
    // PIPE is ignored by the host, which is a common Rust program.
    let script = r"
import os, re, resource
print(os.getcwd(), os.getpgrp(), os.getsid(0), oct(os.umask(0)), os.nice(0), os.getgroups())
print(os.getuid(), os.geteuid(), os.getgid(), os.getegid(), sorted(os.environ.items()))
for fd in range(300):
    try:
        print(fd, os.readlink(f'/proc/self/fd/{fd}').split(':')[0])
    except FileNotFoundError:
        pass
print([resource.getrlimit(n) for n in range(16)])
for line in open('/proc/self/status'):
    if line.startswith(('SigBlk', 'SigPnd', 'ShdPnd')):
        print(line)
    if line.startswith('SigIgn'):
        print(hex(int(line.split()[1], 16) & ~(1 << 12)))
print(os.readlink('/proc/self/ns/mnt'), open('/proc/self/oom_score_adj').read())
";
    let around = |command: Command| {
        let script =
            "umask 027; ulimit -n 200; exec 7</etc/passwd 9<>/dev/null; trap '' USR2; exec";
        let words = [&format!("{script} \"$@\""), "sh"].map(str::to_owned);
        let mut sh = Command::new("sh");
        sh.arg("-c")
            .args(words)
            .arg(command.get_program())
            .args(command.get_args());
        sh.current_dir("/")
            .env("PATH", "/usr/bin:/bin")
            .env("ODD", "a=b\n\u{fffd}");
        host.become_user(&mut sh);
        said(sh.stdin(Stdio::null()).output().unwrap())
    };
    let mut bare = Command::new("python3");
    bare.args(["-c", script]);
    let bare = around(bare);
    assert_eq!(bare.0, 0);
    assert_eq!(around(host.command(&["python3", "-c", script])), bare);
}

fn keeps_set_user_id_for_root(host: &Host) {
    let dir = public_dir();
    let id = dir.path().join("id");
    fs::copy("/usr/bin/id", &id).unwrap();
    if host.nobody {
        // The kernel allows the filter only to those who give this up.
        assert_eq!(
            host.sh("grep NoNewPrivs /proc/self/status").1,
            "NoNewPrivs:\t1\n"
        );
    } else {
        chown(&id, Some(65534), None).unwrap();
        fs::set_permissions(&id, fs::Permissions::from_mode(0o4755)).unwrap();
        assert_eq!(host.run(&[path(&id), "-u"]), is(0, "65534\n"));
    }
}

fn ends_the_command_itself(host: &Host) {
    for status in [0, 7, 9, 255] {
        assert_eq!(host.run(&[&format!("/exit/{status}")]), is(status, ""));
        assert_eq!(host.run(&[&format!("/late/{status}")]), is(status, ""));
    }
}

fn ends_forked_children(host: &Host) {
    let script = "for n in 0 7 9; do /exit/$n; echo $?; /late/$n; echo $?; done; exec /late/3";
    assert_eq!(host.sh(script), is(3, "0\n0\n7\n7\n9\n9\n"));
}

fn ends_make_recipes(host: &Host) {
    let dir = public_dir();
    // make(1) looks whether there is something to execute.
    for verb in ["late/0", "exit/0", "late/7"] {
        program(&dir.path().join(verb), "#!/bin/sh\necho it was run", 0o755);
    }
    let text = "all: a b c\na:\n\t@./late/0\nb:\n\t@./exit/0\nc:\n\t-@./late/7\n\t@echo $@\n";
    fs::write(dir.path().join("Makefile"), text).unwrap();
    let run = host.run(&[
        "make",
        "--no-print-directory",
        "-j2",
        "-C",
        path(dir.path()),
    ]);
    assert_eq!(run, is(0, "c\n"));
}

fn ends_python_children(host: &Host) {
    let script = "
import os, subprocess, threading
for n in (0, 7, 9):
    for verb in ('exit', 'late'):
        path = f'/{verb}/{n}'
        assert subprocess.call([path]) == n
        assert subprocess.call([path], close_fds=False) == n
        pid = os.posix_spawn(path, [path], os.environ)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == n
def run():
    for n in range(20):
        assert subprocess.call([f'/late/{n}']) == n
threads = [threading.Thread(target=run) for _ in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
stop = threading.Event()
others = [threading.Thread(target=stop.wait) for _ in range(4)]
[t.start() for t in others]
last = threading.Thread(target=os.execv, args=('/late/5', ['x']))
last.start()
stop.wait()
";
    assert_eq!(host.python(script), is(5, ""));
}

fn ends_callers_of_32_bit_calls(host: &Host) {
    if !cfg!(target_arch = "x86_64") {
        return;
    }
    let dir = public_dir();
    let (source, program) = (dir.path().join("a.c"), dir.path().join("a"));
    let text = r#"
static char path[16];
int main(int argc, char **argv) {
    long result;
    for (int i = 0; argv[1][i]; i++) path[i] = argv[1][i];
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(11), "b"(path), "c"(0), "d"(0) : "memory");
    return 100 - result;
}"#;
    fs::write(&source, text).unwrap();
    let mut cc = Command::new("cc");
    assert!(
        cc.arg("-no-pie")
            .arg("-o")
            .args([&program, &source])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(host.run(&[path(&program), "/late/7"]), is(7, ""));
    assert_eq!(host.run(&[path(&program), "/exit/9"]), is(9, ""));
    assert_eq!(host.run(&[path(&program), "/back/1"]), is(102, ""));
    assert_eq!(host.run(&[path(&program), "/backfail/13"]), is(113, ""));
}

fn kills_in_place_of_the_call(host: &Host) {
    assert_eq!(host.run(&["/kill/15"]), is(143, "signal 15\n"));
    assert_eq!(host.run(&["/kill/9"]), is(137, "signal 9\n"));
    assert_eq!(host.sh("/kill/15; echo $?"), is(0, "143\n"));
    // Where the process has made itself deaf to it, the status says the same.
    assert_eq!(
        host.sh("trap '' TERM; (exec /kill/15); echo $?"),
        is(0, "143\n")
    );
}

fn fails_the_call(host: &Host) {
    assert_eq!(host.sh("/fail/13 2>&-; echo $?"), is(0, "126\n"));
    assert_eq!(host.sh("/backfail/13 2>&-; echo $?"), is(0, "126\n"));
    assert_eq!(host.sh("/panic/0 2>&-; echo $?"), is(0, "126\n"));
    // Attached to and let go: the call is made as if nothing had been.
    assert_eq!(host.sh("/back/7 2>&-; echo $?"), is(0, "127\n"));
}

fn can_trap_every_call(host: &Host) {
    let host = host.with("all");
    assert_eq!(
        host.sh("echo hello | cat; /late/7; exit $?"),
        is(7, "hello\n")
    );
}

fn is_not_held_up_by_a_blocked_worker(host: &Host) {
    // Each flood fills its pipe before the reader has been allowed to execute.
    let script = "for n in 1 2 3 4 5 6 7 8; do /flood/0 | cat | wc -c & done; wait";
    assert_eq!(host.sh(script), is(0, &"300000\n".repeat(8)));
}

fn is_not_held_up_by_a_killed_caller(host: &Host) {
    let script = "/hold/1 & kill -9 $!; wait $! 2>&-; echo $?; /late/4";
    assert_eq!(host.sh(script), is(4, "137\n"));
}

fn lets_threads_execute(host: &Host) {
    let script = "
import os, threading
print(os.getpid(), flush=True)
script = ['sh', '-c', 'echo $$; exit 6']
threading.Thread(target=os.execv, args=('/bin/sh', script)).start()
threading.Event().wait()
";
    let (status, output) = host.python(script);
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!((status, lines.len()), (6, 2));
    assert_eq!(lines[0], lines[1]);
}

fn lets_stop_and_continue_through(host: &Host) {
    // In a group of its own: the kernel ignores SIGTSTP in an orphaned one, as ours may be.
    let script = "
import os, signal, subprocess
child = subprocess.Popen(['cat'], stdin=subprocess.PIPE, process_group=0)
for stop in (signal.SIGSTOP, signal.SIGTSTP):
    os.kill(child.pid, stop)
    pid, status = os.waitpid(child.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status) and os.WSTOPSIG(status) == stop
    os.kill(child.pid, signal.SIGCONT)
    pid, status = os.waitpid(child.pid, os.WCONTINUED)
    assert os.WIFCONTINUED(status)
child.stdin.write(b'still there')
child.stdin.close()
assert child.wait() == 0
";
    assert_eq!(host.python(script), is(0, "still there"));
}

fn lets_signals_through(host: &Host) {
    let script = "
import os, signal, subprocess
seen = []
for number in (signal.SIGUSR1, signal.SIGTRAP, signal.SIGURG, signal.SIGRTMIN + 3, signal.SIGRTMAX):
    signal.signal(number, lambda number, frame: seen.append(number))
    os.kill(os.getpid(), number)
    assert seen[-1] == number
ticks = []
signal.signal(signal.SIGALRM, lambda number, frame: ticks.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
while len(ticks) < 5:
    assert subprocess.call(['/late/0']) == 0
    assert subprocess.call(['/bin/true']) == 0
signal.setitimer(signal.ITIMER_REAL, 0)
child = subprocess.Popen(['cat'], stdin=subprocess.PIPE)
child.terminate()
assert child.wait() == -signal.SIGTERM
";
    assert_eq!(host.python(script), is(0, ""));
}

fn ends_with_an_interrupt_from_the_terminal(host: &Host) {
    let script = r"
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
said = b''
def hear():
    global said
    try:
        said += os.read(terminal, 1000)
        return True
    except OSError:
        return False
while b'ready' not in said:
    hear()
os.write(terminal, b'\x03')
while hear():
    pass
print(said.decode().split())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";
    let supervised = host.command(&["sh", "-c", "echo ready; exec cat"]);
    let mut terminal = Command::new("python3");
    terminal
        .args(["-c", script])
        .arg(supervised.get_program())
        .args(supervised.get_args());
    host.become_user(terminal.current_dir("/").env("PATH", "/usr/bin:/bin"));
    let (status, output) = said(terminal.output().unwrap());
    assert_eq!(
        (status, output.as_str()),
        (130, "['ready', '^Csignal', '2']\n")
    );
}

fn waits_for_orphans(host: &Host) {
    let dir = public_dir();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    fs::set_permissions(&fifo, fs::Permissions::from_mode(0o666)).unwrap();
    let orphan = "setsid sh -c 'read line <$0; ps -o comm= -p $(ps -o ppid= -p $$); echo $line'";
    let script = format!("{orphan} {} & exit 3", path(&fifo));
    let mut running = host
        .command(&["sh", "-c", &script])
        .env("TELL", "1")
        .stdout(Stdio::piped())
        .spawn()
        .map(Started)
        .unwrap();
    let mut output = BufReader::new(running.0.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ended\n");
    fs::write(&fifo, "late\n").unwrap();
    line.clear();
    output.read_to_string(&mut line).unwrap();
    assert_eq!(line, "rfs-reaper\nlate\n");
    assert_eq!(running.0.wait().unwrap().code(), Some(3));
}

fn leaves_nothing_behind_a_dead_host(host: &Host) {
    let script = "setsid sh -c 'echo $$; sleep 1000 & echo $!; wait' & echo $!; echo $$; cat";
    let mut running = host
        .command(&["sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map(Started)
        .unwrap();
    let output = BufReader::new(running.0.stdout.take().unwrap());
    let lines = output
        .lines()
        .take(4)
        .map(|line| line.unwrap().parse().unwrap());
    let pids: Vec<i32> = lines.collect();
    assert!(pids.iter().all(|&pid| state(pid) != 'X'));
    running.0.kill().unwrap();
    running.0.wait().unwrap();
    for pid in pids {
        eventually(|| (state(pid) == 'X').then_some(()));
    }
}
