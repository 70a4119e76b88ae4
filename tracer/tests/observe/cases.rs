//! What is told of commands.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::Case;
use crate::host::observe;

pub const ALL: &[Case] = &[
    ("shell", shell),
    ("path_search", path_search),
    ("scripts", scripts),
    ("inherited", inherited),
    ("orphans", orphans),
    ("killed", killed),
    ("unseen_children", unseen_children),
    ("waits", waits),
    ("served", served),
    ("served_into_nothing", served_into_nothing),
    ("directories", directories),
    ("threads", threads),
    ("thread_exec", thread_exec),
    ("links", links),
    ("stdio", stdio),
    ("sockets", sockets),
    ("too_long", too_long),
    ("old_programs", old_programs),
    ("unknown_call", unknown_call),
    ("many_processes", many_processes),
];

fn nothing(_: &Path) {}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn shell(backend: &str) {
    let script = "umask 27; echo hi > f; cat f; mv f g; mkdir d; cd d; echo x >> ../g; cd ..; \
                  ln -s g l; rm g l; rmdir d; exit 5";
    let seen = observe(backend, nothing, &["sh", "-c", script]);
    assert_eq!((seen.status, seen.stdout.as_str()), (5, "hi\n"));
    seen.expect(&[
        "born 0",
        "exec /usr/bin/",
        "open Walk { path: \"f\", links: [], end: Absent } 0x241 666",
        "write 1 \"hi\\n\"",
        "umask 27 fds [0, 1, 2",
        "open Walk { path: \"f\", links: [], end: Found(File) } 0x0 0",
        "exit 0 with 0",
        "rename Walk { path: \"f\", links: [], end: Found(File) } Walk { path: \"g\"",
        "mkdir Walk { path: \"d\", links: [], end: Absent } 777",
        "chdir Walk { path: \"d\"",
        "open Walk { path: \"g\", links: [], end: Found(File) } 0x441 666",
        "symlink Walk { path: \"l\", links: [], end: Absent } -> \"g\"",
        "unlink Walk { path: \"g\", links: [], end: Found(File) } dir=false",
        "unlink Walk { path: \"l\", links: [], end: Found(Link(\"g\")) } dir=false",
        "unlink Walk { path: \"d\", links: [], end: Found(Dir) } dir=true",
        "exit 5 with 0",
    ])
    .expect_not("taint")
    .expect_not("exec failed");
}

fn path_search(backend: &str) {
    let furnish = |dir: &Path| {
        fs::create_dir(dir.join("bin")).unwrap();
        write(&dir.join("bin/tool"), "#!/bin/sh\n", 0o644);
        fs::create_dir(dir.join("bin2")).unwrap();
        write(&dir.join("bin2/tool"), "#!/bin/sh\nexit 3\n", 0o755);
    };
    let script = "PATH=./none:./bin:./bin2; exec env tool";
    let seen = observe(
        backend,
        furnish,
        &["sh", "-c", &script.replace("env", "/usr/bin/env")],
    );
    assert_eq!(seen.status, 3);
    seen.expect(&[
        "access Walk { path: \"none\", links: [], end: MissingDir } 1",
        "access Walk { path: \"bin/tool\", links: [], end: Found(File) } 1",
        "exec bin2/tool cwd",
    ])
    .expect_not("exec failed");
}

fn scripts(backend: &str) {
    let furnish = |dir: &Path| {
        write(&dir.join("inner"), "#!/bin/sh\nexec \"$2\"\n", 0o755);
        write(&dir.join("outer"), "#!inner\n", 0o755);
        write(&dir.join("plain"), "exit 4\n", 0o755);
        write(&dir.join("broken"), "#!/nowhere\n", 0o755);
    };
    let script = "./outer ./plain; echo $?; ./broken 2>/dev/null || echo none";
    let seen = observe(backend, furnish, &["sh", "-c", script]);
    assert_eq!(seen.stdout, "4\nnone\n");
    seen.expect(&[
        "open Walk { path: \"plain\", links: [], end: Found(File) } 0x0 0",
        "open Walk { path: \"broken\", links: [], end: Found(File) } 0x0 0",
        "access Walk { path: \"/nowhere\", links: [], end: Absent } 1",
    ])
    .expect_not("exec failed");
}

fn inherited(backend: &str) {
    let seen = observe(
        backend,
        nothing,
        &["sh", "-c", "exec 5>f 6<&5 7>&-; exec /bin/true"],
    );
    seen.expect(&["fds [0, 1, 2, 5, 6"]);
}

fn orphans(backend: &str) {
    // The one in the middle ends before its child says anything; a fifo holds the child until then.
    let script = "mkfifo p; sh -c '(read x < p; : > late) & (: ; : > soon) & exit 0'; echo go > p; \
                  while ! [ -e late ]; do :; done";
    let seen = observe(backend, nothing, &["sh", "-c", script]);
    assert!(seen.path("late").exists());
    seen.expect(&[
        "exit 0 with",
        "open Walk { path: \"late\", links: [], end: Absent }",
    ]);
}

fn killed(backend: &str) {
    let seen = observe(
        backend,
        nothing,
        &["sh", "-c", "sh -c 'kill -9 $$'; kill -15 $$"],
    );
    assert_eq!(seen.status, 128 + 15);
    seen.expect(&["kill", "died", "kill", "died"]);
    assert_eq!((seen.count("died"), seen.count("exit ")), (2, 0));
}

fn unseen_children(backend: &str) {
    // The first is killed before it makes a call that is seen, which only its parent hears of; the second goes
    // on after its parent.
    let script = "import os\n\
        pid = os.fork()\n\
        while pid == 0: pass\n\
        os.kill(pid, 9)\n\
        os.waitpid(pid, 0)\n\
        r, w = os.pipe()\n\
        if os.fork() == 0:\n  \
          os.close(w)\n  \
          os.read(r, 1)\n  \
          os._exit(2)\n\
        os._exit(1)\n";
    let seen = observe(backend, nothing, &["/usr/bin/python3", "-S", "-c", script]);
    assert_eq!((seen.status, seen.count("born")), (1, 3));
    assert_eq!(seen.count("died 9"), 1);
    seen.expect(&["kill", "exit 1 with 1", "exit 2 with 0"]);
}

/// However a process hears that a child of it was killed before it did anything, that is known.
fn waits(backend: &str) {
    let ways = [
        "os.wait()",
        "os.waitpid(pid, 0)",
        "os.wait3(0)",
        "os.wait4(pid, 0)",
        "os.waitid(os.P_PID, pid, os.WEXITED)",
        "os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT); os.wait()",
        "raw(61, pid, None, 0, None)",
        "raw(247, 1, pid, None, 4, None)",
    ];
    let mut script = "import ctypes, os\nraw = ctypes.CDLL(None).syscall\n".to_owned();
    for way in ways {
        for signal in [9, 11] {
            script.push_str(&format!(
                "pid = os.fork()\nwhile pid == 0: pass\nos.kill(pid, {signal})\n{way}\n"
            ));
        }
    }
    // One that ends by itself is told once, whoever waits.
    script.push_str("if os.fork() == 0: os._exit(3)\nos.wait()\n");
    let seen = observe(backend, nothing, &["/usr/bin/python3", "-S", "-c", &script]);
    let n = ways.len();
    assert_eq!((seen.count("died 9"), seen.count("died 11")), (n, n));
    assert_eq!((seen.count("exit 3"), seen.count("born")), (1, 2 + 2 * n));
    assert_eq!(seen.count("died"), 2 * n, "{}", seen.text());
}

fn serve(dir: &Path) {
    write(&dir.join("served"), "#!/bin/sh\necho not served\n", 0o755);
}

fn served(backend: &str) {
    let script =
        "./served | tail -1; (./served; echo $?) | tail -1; ./served >f; echo $?; wc -c <f";
    let seen = observe(backend, serve, &["sh", "-c", script]);
    assert_eq!(seen.stdout, "served\n7\n7\n140000\n");
    assert_eq!(seen.count("exec served"), 3);
    assert_eq!(seen.count("exit 7 with 0"), 3);
    seen.expect_not("exec failed").expect_not("not served");
}

fn served_into_nothing(backend: &str) {
    let seen = observe(
        backend,
        serve,
        &["bash", "-c", "./served | :; echo ${PIPESTATUS[0]}"],
    );
    assert_eq!(seen.stdout, "141\n");
    assert_eq!(seen.count("died"), 1);
}

fn act(backend: &str, part: &str) -> crate::host::Seen {
    let me = std::env::current_exe().unwrap();
    let seen = observe(backend, nothing, &[me.to_str().unwrap(), "actor", part]);
    assert_eq!(seen.status, 0, "{}", seen.text());
    seen
}

fn made(path: &str) -> String {
    format!("open Walk {{ path: \"{path}\", links: [], end: Absent }}")
}

fn directories(backend: &str) {
    let names = [
        "a/b/one",
        "c/b/two",
        "c/b/three",
        "c/four",
        "c/five",
        "d/six",
    ];
    let seen = act(backend, "directories");
    for name in names {
        seen.expect(&[&made(name)]);
        assert!(
            seen.path(&name.replace("a/", "d/").replace("c/", "d/"))
                .exists()
        );
    }
    seen.expect(&["stat Walk { path: \"/nowhere-to-be-found\", links: [], end: Absent }"]);
}

fn threads(backend: &str) {
    let seen = act(backend, "threads");
    for n in 0..4 {
        seen.expect(&[&made(&format!("thread-{n}"))]);
    }
    seen.expect(&[&made("main"), "exit 0 with 0"]);
    assert_eq!(seen.count("born"), 1);
}

fn thread_exec(backend: &str) {
    let seen = act(backend, "thread-exec");
    seen.expect(&[&made("before"), "exec /usr/bin/", &made("after"), "exit 0"]);
    seen.expect_not("exec failed");
    assert_eq!((seen.count("born"), seen.count("exit ")), (1, 1));
}

fn links(backend: &str) {
    let at = |path: &str, link: &str, end: &str| {
        format!("open Walk {{ path: \"{path}\", links: [\"{link}\"], end: {end} }}")
    };
    act(backend, "links").expect(&[
        "symlink Walk { path: \"dangling\"",
        &at("nowhere", "dangling", "Absent"),
        "link Walk { path: \"nowhere\", links: [], end: Found(File) } Walk { path: \"second\"",
        &at("dir/file", "to-dir", "Absent"),
        "unlink Walk { path: \"to-dir\", links: [], end: Found(Link(\"dir\"))",
        &at("other/file", "to-dir", "Absent"),
        "stat Walk { path: \"to-dir\", links: [], end: MissingDir }",
        &made("to-dir/file"),
        "rename Walk { path: \"dir\", links: [], end: Found(Dir) } Walk { path: \"second\"",
        &made("second/after-exchange"),
        "link Walk { path: \"/proc/self/fd/",
        "rename Walk { path: \"late\"",
    ]);
}

fn stdio(backend: &str) {
    let seen = act(backend, "stdio");
    assert_eq!(seen.stdout, "hello\nagain");
    seen.expect(&[
        "write 1 \"hello\\n\"",
        "dup 1 -> -1 Pipe",
        "write",
        "dup 0 -> -1 Null",
        "read-stdin Null",
        "open Walk { path: \"file\", links: [], end: Found(File) } 0x80000",
        "open Walk { path: \"file\", links: [\"/proc/self/fd/3\"], end: Found(File) } 0x80401",
    ]);
}

fn sockets(backend: &str) {
    act(backend, "sockets").expect(&[
        "socket Unix(Walk { path: \"nobody-listens\", links: [], end: Absent })",
        "socket Inet(\"127.0.0.1:9\")",
    ]);
}

fn too_long(backend: &str) {
    act(backend, "too-long").expect(&["[", "exec failed", &made("went-on"), "exit 0"]);
}

fn compile(dir: &Path, name: &str, options: &[&str], text: &str) {
    let source = dir.join(format!("{name}.S"));
    fs::write(&source, text).unwrap();
    let status = std::process::Command::new("gcc")
        .args(["-nostdlib", "-static", "-o"])
        .arg(dir.join(name))
        .arg(&source)
        .args(options)
        .status()
        .unwrap();
    assert!(status.success());
}

fn old_programs(backend: &str) {
    if !cfg!(target_arch = "x86_64") {
        return;
    }
    // open("made-by-32", O_CREAT|O_WRONLY, 0600), then exit_group(6), the old way.
    let calls = ".globl _start\n_start: mov $5,%eax\nmov $name,%ebx\nmov $0x41,%ecx\n\
                 mov $0600,%edx\nint $0x80\nmov $252,%eax\nmov $6,%ebx\nint $0x80\n\
                 .data\nname: .asciz \"NAME\"\n";
    let furnish = |dir: &Path| {
        compile(dir, "p32", &["-m32"], &calls.replace("NAME", "made-by-32"));
        compile(
            dir,
            "p64",
            &["-no-pie"],
            &calls.replace("NAME", "made-by-64"),
        );
    };
    let seen = observe(
        backend,
        furnish,
        &["sh", "-c", "./p32; echo $?; ./p64; echo $?"],
    );
    assert_eq!(seen.stdout, "6\n6\n");
    for name in ["made-by-32", "made-by-64"] {
        assert!(seen.path(name).exists());
        seen.expect(&[&format!("{} 0x41 600", made(name)), "exit 6"]);
    }
    seen.expect_not("taint");
}

fn unknown_call(backend: &str) {
    if !cfg!(target_arch = "x86_64") {
        return;
    }
    let calls = ".globl _start\n_start: mov $7777,%eax\nsyscall\nmov $425,%eax\nsyscall\n\
                 mov %eax,%edi\nneg %edi\nmov $231,%eax\nsyscall\n";
    let seen = observe(backend, |dir| compile(dir, "p", &[], calls), &["./p"]);
    assert_eq!(
        seen.status,
        libc::ENOSYS,
        "io_uring_setup must not be there"
    );
    seen.expect(&["taint All unknown system call 7777", "exit 38"]);
}

fn many_processes(backend: &str) {
    let script = "i=0; while [ $i -lt 200 ]; do /bin/true & (exit 1) & i=$((i+1)); done; wait";
    let seen = observe(backend, nothing, &["sh", "-c", script]);
    assert_eq!(
        (seen.status, seen.count("born"), seen.count("exit ")),
        (0, 401, 401)
    );
    drop(File::open(seen.dir.path()).unwrap());
}
