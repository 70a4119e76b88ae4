//! What goes wrong around a build: no mount, no tracer, no room, a broken cache. A message that
//! names the path and the remedy, the right exit code, and nothing lost.

use std::fs;
use std::path::{Path, PathBuf};

use crate::probe::assert_same_run;
use crate::run::{Cmd, Run};
use crate::space::TestSpace;
use crate::tree::assert_same;

fn copying() -> TestSpace {
    let s = TestSpace::new();
    s.write("in", "one\n");
    s.write(
        "build.sh",
        "cat in > out\nsh -c 'sort in > out2'\necho said\n",
    );
    s
}

/// The command, after a script in a mount namespace of its own.
fn within(script: &str, cmd: impl Into<Cmd>) -> Cmd {
    let cmd: Cmd = cmd.into();
    cmd.outer([
        "unshare",
        "-m",
        "sh",
        "-c",
        &format!("{script}\nexec \"$@\""),
        "sh",
    ])
}

fn warnings(run: &Run) -> Vec<String> {
    let is_ours = |line: &&str| line.starts_with("rfs: ") && !line.starts_with("rfs: hint: ");
    run.err()
        .lines()
        .filter(is_ours)
        .map(str::to_owned)
        .collect()
}

/// It was run without us: the outputs are right, and one warning says so.
fn ran_plainly(s: &TestSpace, run: &Run, about: &str) {
    assert_eq!((run.code(), run.out().as_str()), (0, "said\n"), "{run:#?}");
    assert_eq!(
        (s.read("out"), s.read("out2")),
        ("one\n".into(), "one\n".into())
    );
    let told = warnings(run);
    assert_eq!(told.len(), 1, "one warning: {run:#?}");
    assert!(told[0].contains(about), "it names {about}: {run:#?}");
    assert!(!run.err().contains("panicked"), "{run:#?}");
}

const NO_FUSE: &str = "mount --bind /dev/null /dev/fuse";

#[test]
fn no_fuse() {
    let s = copying();
    let plain = s.rfs(within(NO_FUSE, "sh build.sh"));
    ran_plainly(&s, &plain, "");
    assert!(plain.err().contains("doctor"), "the remedy: {plain:#?}");
    let failing = s.rfs(within(NO_FUSE, Cmd::sh("exit 7")));
    let _own = failing.expect_code(7);
    let _missing = s.rfs(within(NO_FUSE, "no-such-command")).expect_code(127);
}

#[test]
fn no_fuse_and_strict() {
    let s = copying();
    let run = s
        .rfs_with(&["--strict"], within(NO_FUSE, "sh build.sh"))
        .expect_code(125);
    assert!(
        !s.exists("out") && run.stdout.is_empty(),
        "the command did not run: {run:#?}"
    );
    assert!(run.err().contains("doctor"), "{run:#?}");
    let _ok = s
        .rfs_with(&["--strict"], "sh build.sh")
        .expect_code(0)
        .expect_ran();
}

/// Neither seccomp nor ptrace, as in a sandbox that forbids both.
#[test]
fn no_tracer() {
    let s = copying();
    let source = r#"#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#define DENY(nr) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1), \
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)
int main(int argc, char **argv) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        DENY(SYS_seccomp), DENY(SYS_ptrace),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) return 99;
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) return 98;
    execvp(argv[1], argv + 1);
    return 97;
}
"#;
    crate::probes::compile(&s, "blind", "", source);
    let cmd = || Cmd::from("sh build.sh").outer([s.path("blind")]);
    let plain = s.rfs(cmd());
    ran_plainly(&s, &plain, "trace the command");
    assert!(plain.err().contains("`rfs doctor`"), "a remedy: {plain:#?}");
    s.remove("out");
    let _strict = s.rfs_with(&["--strict"], cmd()).expect_code(125);
    assert!(!s.exists("out"));
}

/// What can be done there is done, with the bare words for what cannot.
#[test]
fn read_only_workspace() {
    let s = copying();
    let ws = s.ws().display();
    let script = format!("mount --bind {ws} {ws} && mount -o remount,bind,ro {ws} && cd {ws}");
    for words in [
        "cat in",
        "echo no > out; echo \"status $?\"",
        "rm in; touch in; mkdir d",
    ] {
        let cmd = within(&script, Cmd::sh(words));
        let bare = s.bare(cmd.clone());
        for round in ["first", "second"] {
            let run = s.rfs(cmd.clone());
            assert_eq!(
                (run.status, run.out()),
                (bare.status, bare.out()),
                "{round}: {run:#?}"
            );
            let own: String = run
                .err()
                .lines()
                .filter(|l| is_bare(l))
                .map(|l| format!("{l}\n"))
                .collect();
            assert_eq!(own, bare.err(), "{round}: {run:#?}");
        }
    }
    assert_eq!(s.read("in"), "one\n");
}

/// Not a line of ours; the remedy under a warning is indented or says so.
fn is_bare(line: &str) -> bool {
    !line.starts_with("rfs: ") && !line.starts_with(' ') && !line.starts_with("hint: ")
}

/// The workspace on a small disk; `in` is put there.
fn small_disk(s: &TestSpace) -> String {
    let ws = s.ws().display();
    format!("mount -t tmpfs -o size=400k tmpfs {ws} && cd {ws} && echo one > in")
}

#[test]
fn full_disk() {
    let s = TestSpace::new();
    let words = "seq 150000 > big; echo \"status $?\"; rm big; \
                 cat in > small; echo \"status $?\"; cat small";
    let cmd = within(&small_disk(&s), Cmd::sh(words));
    let bare = s.bare(cmd.clone());
    assert!(bare.err().contains("No space left on device"), "{bare:#?}");
    for round in ["first", "second"] {
        assert_same_run(&bare, &s.rfs(cmd.clone()), round);
    }
}

/// What failed there might not fail the next time.
#[test]
fn a_failure_on_a_full_disk_leaves_no_record() {
    let s = TestSpace::new();
    let fails = || Cmd::sh("cat in; exit 1");
    for _ in 0..2 {
        let run = s.rfs(within(&small_disk(&s), fails())).expect_code(1);
        assert_eq!(run.summary().refused, 1, "{run:#?}");
    }
    s.write("in", "one\n");
    let _ran = s.rfs(fails()).expect_code(1).expect_ran();
    let _hit = s.rfs(fails()).expect_code(1).expect_hit();
}

/// What was recorded where there was room is not lost in silence where there is none.
#[test]
fn served_onto_a_full_disk() {
    let s = TestSpace::new();
    s.write("in", "one\n");
    let words = "seq 150000 > big && cat in > small";
    let _recorded = s.rfs(Cmd::sh(words)).expect_code(0).expect_ran();
    let look = "\"$@\"; echo \"status $?\"; stat -c '%s' big; cat small";
    let outer = format!("{}\n{look}", small_disk(&s));
    let run = s.rfs(
        Cmd::sh(words)
            .outer(["unshare", "-m", "sh", "-c", &outer, "sh"])
            .plain(),
    );
    assert!(
        !run.out().contains("status 0"),
        "all is well, it says: {run:#?}"
    );
    let _elsewhere = s.rfs(Cmd::sh(words)).expect_code(0).expect_hit();
}

#[test]
fn full_cache() {
    let s = copying();
    fs::create_dir(s.cache()).unwrap();
    let cache = s.cache().display().to_string();
    let script = format!(
        "mount -t tmpfs -o size=200k tmpfs {cache} && cd {}",
        s.ws().display()
    );
    let words = "seq 150000 > big; cat in > out; sort in > out2; echo said";
    let run = s.rfs(within(&script, Cmd::sh(words)));
    assert_eq!((run.code(), run.out().as_str()), (0, "said\n"), "{run:#?}");
    assert_eq!(fs::metadata(s.path("big")).unwrap().len(), 938_895);
    assert_eq!(s.read("out2"), "one\n");
    let told = warnings(&run);
    assert_eq!(told.len(), 1, "said once: {run:#?}");
    assert!(
        told[0].contains(&cache) && told[0].contains("No space left"),
        "{run:#?}"
    );
    assert!(run.err().contains("cache gc"), "the remedy: {run:#?}");
}

/// It can be read, so it serves; it cannot be written, which is said once.
#[test]
fn read_only_cache() {
    let s = copying();
    let _first = s.rfs("sh build.sh").expect_ran();
    let cache = s.cache().display().to_string();
    let ws = s.ws().display();
    let script =
        format!("mount --bind {cache} {cache} && mount -o remount,bind,ro {cache} && cd {ws}");
    s.remove("out");
    let served = s.rfs(within(&script, "sh build.sh")).expect_hit();
    assert_eq!(
        (served.code(), s.read("out").as_str()),
        (0, "one\n"),
        "{served:#?}"
    );
    s.write("in", "two\n");
    let ran = s.rfs(within(&script, "sh build.sh")).expect_ran();
    assert_eq!(
        (ran.code(), s.read("out").as_str()),
        (0, "two\n"),
        "{ran:#?}"
    );
    let told = warnings(&ran);
    assert_eq!(told.len(), 1, "said once: {ran:#?}");
    assert!(
        told[0].contains(&cache) && told[0].contains("Read-only"),
        "{ran:#?}"
    );
    assert!(ran.err().contains("RFS_CACHE_DIR"), "the remedy: {ran:#?}");
}

#[test]
fn cache_is_a_file() {
    let s = copying();
    fs::write(s.cache(), "precious\n").unwrap();
    let run = s.rfs("sh build.sh");
    ran_plainly(&s, &run, &s.cache().display().to_string());
    assert!(run.err().contains("RFS_CACHE_DIR"), "the remedy: {run:#?}");
    assert_eq!(fs::read_to_string(s.cache()).unwrap(), "precious\n");
}

/// A directory of somebody else is not filled with blobs.
#[test]
fn cache_holds_other_files() {
    let s = copying();
    fs::create_dir(s.cache()).unwrap();
    fs::write(s.cache().join("thesis.tex"), "precious\n").unwrap();
    let run = s.rfs("sh build.sh");
    ran_plainly(&s, &run, &s.cache().display().to_string());
    assert_eq!(fs::read_dir(s.cache()).unwrap().count(), 1);
}

#[test]
fn cache_of_a_newer_version() {
    let s = copying();
    let _first = s.rfs("sh build.sh").expect_ran();
    let version = s.cache().join("VERSION");
    let text = fs::read_to_string(&version).unwrap();
    fs::write(&version, "rfs-cache 999\n").unwrap();
    let before = files(&s.cache());
    let run = s.rfs("sh build.sh");
    ran_plainly(&s, &run, &s.cache().display().to_string());
    assert!(run.err().contains("newer"), "{run:#?}");
    assert!(run.err().contains("RFS_CACHE_DIR"), "the remedy: {run:#?}");
    assert_eq!(files(&s.cache()), before, "nothing was touched");
    fs::write(&version, text).unwrap();
    let _served = s.rfs("sh build.sh").expect_hit();
}

/// Every file below `dir` with its content.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut stack = vec![dir.to_owned()];
    while let Some(dir) = stack.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                stack.push(path);
            } else {
                found.push((path.clone(), fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// Runs once more with a damaged cache: right, quiet but for one message a damage, and mended after.
fn survives(s: &TestSpace, bare: &Run, what: &str) {
    let tree = s.tree();
    s.remove("out");
    s.remove("out2");
    let run = s.rfs("sh build.sh");
    assert_eq!(
        (run.status, run.out()),
        (bare.status, bare.out()),
        "{what}: {run:#?}"
    );
    assert_same(&tree, &s.tree(), what);
    let mut told = warnings(&run);
    assert!(!run.err().contains("panicked"), "{what}: {run:#?}");
    told.sort();
    let n_told = told.len();
    told.dedup();
    assert_eq!(told.len(), n_told, "{what}: each is said once: {run:#?}");
    let cache = s.cache().display().to_string();
    assert!(
        told.iter().all(|line| line.contains(&cache)),
        "{what}: {run:#?}"
    );
    s.remove("out");
    let mut next = s.rfs("sh build.sh").expect_code(0);
    while !next.err().is_empty() {
        // A page of the index, and a blob, is checked when it is first needed, which may be now.
        for line in warnings(&next) {
            assert!(line.contains(&cache), "{what}: {next:#?}");
            assert!(!told.contains(&line), "{what}, said again: {next:#?}");
            told.push(line);
        }
        s.remove("out");
        next = s.rfs("sh build.sh").expect_code(0);
    }
    assert_same(&tree, &s.tree(), what);
    assert!(told.len() < 8, "{what}: {told:?}");
    let _served = s.rfs("sh build.sh").expect_hit();
}

/// One file after the other, at its beginning, in the midst and at its end.
#[test]
fn flipped_bytes() {
    let s = copying();
    let bare = s.bare("sh build.sh");
    let _first = s.rfs("sh build.sh").expect_ran();
    let _settles = s.rfs("sh build.sh");
    let whole = files(&s.cache());
    assert!(whole.len() > 3, "{whole:?}");
    for (path, content) in &whole {
        for at in [0, content.len() / 2, content.len().saturating_sub(1)] {
            let Some(byte) = content.get(at) else {
                continue;
            };
            let mut damaged = content.clone();
            damaged[at] = !byte;
            // In place and with the old time stamp, as a bad disk would do it.
            let time = fs::metadata(path).map(|meta| meta.modified().unwrap());
            let Ok(time) = time else { continue };
            fs::write(path, &damaged).unwrap();
            fs::File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_modified(time)
                .unwrap();
            if path.ends_with("VERSION") {
                // Not ours any more, or of another version: as those tests have it.
                let _whatever = s.rfs("sh build.sh").expect_code(0);
                assert_eq!(s.read("out"), "one\n");
                fs::write(path, content).unwrap();
                continue;
            }
            survives(&s, &bare, &format!("{} at {at}", path.display()));
        }
    }
}

#[test]
fn all_bytes_flipped_at_once() {
    let s = copying();
    let bare = s.bare("sh build.sh");
    let _first = s.rfs("sh build.sh").expect_ran();
    for (path, content) in files(&s.cache()) {
        if !path.ends_with("VERSION") {
            fs::write(&path, content.iter().map(|byte| !byte).collect::<Vec<u8>>()).unwrap();
        }
    }
    survives(&s, &bare, "all flipped");
}

#[test]
fn files_cut_short() {
    let s = copying();
    let bare = s.bare("sh build.sh");
    let _first = s.rfs("sh build.sh").expect_ran();
    for length in [0, 1, 9, 30] {
        for (path, content) in files(&s.cache()) {
            if !path.ends_with("VERSION") && content.len() > length {
                fs::write(&path, &content[..length]).unwrap();
            }
        }
        survives(&s, &bare, &format!("cut to {length}"));
    }
}

#[test]
fn files_of_the_cache_vanish() {
    let s = copying();
    let bare = s.bare("sh build.sh");
    let _first = s.rfs("sh build.sh").expect_ran();
    for (path, _) in files(&s.cache()) {
        let _may_be_replaced = fs::remove_file(&path);
        survives(&s, &bare, &format!("{} removed", path.display()));
    }
    for dir in ["blobs", "tmp"] {
        fs::remove_dir_all(s.cache().join(dir)).unwrap();
        survives(&s, &bare, &format!("{dir} removed"));
    }
    fs::remove_dir_all(s.cache()).unwrap();
    survives(&s, &bare, "all removed");
}

/// A blob that was changed by somebody is not shown, whatever its time stamps say.
#[test]
fn poisoned_blob() {
    let s = copying();
    let _first = s.rfs("sh build.sh").expect_ran();
    for (path, content) in files(&s.cache().join("blobs")) {
        let poison = vec![b'!'; content.len()];
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, poison).unwrap();
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(time)
            .unwrap();
    }
    s.remove("out");
    s.remove("out2");
    let right = s.rfs("sh build.sh").expect_code(0);
    assert_eq!(
        (s.read("out"), s.read("out2")),
        ("one\n".into(), "one\n".into())
    );
    let blobs = s.cache().join("blobs").display().to_string();
    let told = warnings(&right);
    let told: Vec<_> = told.iter().filter(|line| line.contains(&blobs)).collect();
    assert!(!told.is_empty(), "said: {right:#?}");
    let once: std::collections::HashSet<_> = told.iter().collect();
    assert_eq!(once.len(), told.len(), "said once: {right:#?}");
    s.remove("out");
    let mended = s.rfs("sh build.sh").expect_hit();
    assert_eq!(warnings(&mended), [""; 0], "{mended:#?}");
}

/// The outputs of a user are his own: what he does to them reaches no blob.
#[test]
fn outputs_are_not_the_cache_s() {
    let s = copying();
    let _first = s.rfs("sh build.sh").expect_ran();
    let before = files(&s.cache().join("blobs"));
    s.append("out", "mine\n");
    s.must(Cmd::sh(
        "printf X | dd of=out2 conv=notrunc 2> /dev/null; chmod 777 out2",
    ));
    assert_eq!(files(&s.cache().join("blobs")), before);
    let _served = s.rfs("sh build.sh").expect_code(0);
    assert_eq!(
        (s.read("out"), s.read("out2")),
        ("one\n".into(), "one\n".into())
    );
    s.append("out", "mine again\n");
    s.must(Cmd::sh("printf X | dd of=out2 conv=notrunc 2> /dev/null"));
    assert_eq!(
        files(&s.cache().join("blobs")),
        before,
        "served ones neither"
    );
}

/// The state of the workspace cannot be kept where a file has its name.
#[test]
fn state_directory_is_a_file() {
    let s = copying();
    s.write(".rfs", "precious\n");
    let run = s.rfs("sh build.sh");
    ran_plainly(&s, &run, ".rfs");
    assert_eq!(s.read(".rfs"), "precious\n");
}

/// There is no workspace to be found from nowhere.
#[test]
fn current_directory_is_gone() {
    let s = TestSpace::new();
    let script = "mkdir gone && cd gone && rmdir ../gone";
    let run = s.rfs(Cmd::sh("echo said").after(script)).expect_code(125);
    assert!(
        run.err().contains("working directory") && run.err().contains("rfs: hint: "),
        "{run:#?}"
    );
}

#[test]
fn config_that_cannot_be_understood() {
    let s = copying();
    s.write("rfs.toml", "[build]\nstrict-clocks = true\n");
    s.mkdir(".git");
    let run = s.rfs("sh build.sh").expect_code(125);
    assert!(
        run.err().contains("rfs.toml") && run.err().contains("strict-clock"),
        "{run:#?}"
    );
    s.write("rfs.toml", "this is no TOML\n");
    let run = s.rfs("sh build.sh").expect_code(125);
    assert!(run.err().contains("rfs.toml"), "{run:#?}");
}
