//! What others may see and what they cannot have done: other users, forged and damaged caches, repositories
//! that bring links along, programs that would gain privileges.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::dice::Dice;
use crate::probe::assert_same_run;
use crate::run::Cmd;
use crate::space::{Setting, TestSpace};
use crate::tree::assert_same;

/// Neither root nor nobody.
const STRANGER: u32 = 65533;

const NOBODY: Setting = Setting {
    nobody: true,
    tracer: None,
};

/// Runs a shell command outside of everything, as another user.
fn as_user(user: u32, script: &str) -> Output {
    let id = user.to_string();
    Command::new("setpriv")
        .args(["--reuid", &id, "--regid", &id, "--clear-groups"])
        .args(["sh", "-c", script])
        .output()
        .unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

/// Every file and directory below, the top one first.
fn below(top: &Path) -> Vec<PathBuf> {
    let mut all = vec![top.to_owned()];
    let mut at = 0;
    while at < all.len() {
        if fs::symlink_metadata(&all[at]).unwrap().is_dir() {
            let names = fs::read_dir(&all[at]).unwrap();
            all.extend(names.map(|entry| entry.unwrap().path()));
        }
        at += 1;
    }
    all
}

/// Root's view admits other users, whose rights in it are those that modes and owners give them.
#[test]
fn modes_bind_other_users_in_roots_view() {
    let s = TestSpace::new();
    s.write(
        "try.sh",
        "try() { echo \"$@\"; setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\" 2>&1; echo \"$?\"; }\n\
         try cat secret\ntry cat open\ntry ls shut\ntry cat shut/open\ntry cat passable/open\n\
         try sh -c 'echo x >> open'\ntry sh -c 'echo x > new'\ntry rm -f open\ntry mv open other\n\
         try chmod 777 secret\ntry chown 65534 open\ntry touch -d @0 open\ntry truncate -s 0 secret\n\
         try ln secret link\ntry rmdir empty\ntry sh -c 'echo mine > theirs/new; cat theirs/new'\n",
    );
    let setup = |s: &TestSpace| {
        for file in ["secret", "open", "shut/open", "passable/open"] {
            s.write(file, "content\n");
        }
        for dir in ["empty", "theirs"] {
            s.remove(dir);
            s.mkdir(dir);
        }
        s.chmod("secret", 0o600);
        s.chmod("shut", 0o700);
        s.chmod("passable", 0o711);
        s.chmod("theirs", 0o777);
    };
    setup(&s);
    let bare = s.bare("sh try.sh");
    let tree = s.tree();
    assert!(bare.out().contains("Permission denied") && bare.out().contains("mine"));
    setup(&s);
    let wrapped = s.rfs("sh try.sh");
    assert_same_run(&bare, &wrapped, "as root");
    assert_same(&tree, &s.tree(), "as root");
}

/// The view of a running build is its own: neither by `/proc` nor by its descriptors does another user get in.
#[test]
fn nobody_enters_the_view_of_another_user() {
    for setting in [Setting::default(), NOBODY] {
        let s = TestSpace::with(setting);
        s.sleeper("");
        s.write("secret", "content\n");
        s.chmod("secret", 0o600);
        let mut started = s.start("./sleeper", true);
        let mut said = BufReader::new(started.child.stdout.take().unwrap());
        let mut ready = String::new();
        said.read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        let pid = started.child.id();
        // The command and the host are below the front.
        let family = format!(
            "for pid in {pid} $(ps -e -o pid=,ppid= | awk '$2 == {pid} {{ print $1 }}'); do\n"
        );
        let ws = s.ws().display();
        let script = format!(
            "{family} cat /proc/$pid/root{ws}/secret /proc/$pid/cwd/secret && echo read\n\
             ls /proc/$pid/fd/ && echo listed\n\
             nsenter -m -t $pid true && echo entered\n\
             n=$((n + 1)); done\n [ $n -ge 2 ] && echo tried"
        );
        let tried = as_user(STRANGER, &script);
        let said = String::from_utf8_lossy(&tried.stdout).into_owned();
        let complaints = String::from_utf8_lossy(&tried.stderr).into_owned();
        assert_eq!(said, "tried\n", "{setting:?} {complaints}");
        assert!(complaints.contains("Permission denied"), "{complaints}");
        started.signal(nix::sys::signal::Signal::SIGTERM);
        let _ended = started.child.wait().unwrap();
    }
}

/// Blobs and records are more than anybody else may see, whatever the umask and whoever made the directory.
#[test]
fn others_cannot_look_into_the_cache() {
    for (setting, made_before) in [(Setting::default(), false), (NOBODY, false), (NOBODY, true)] {
        let s = TestSpace::with(setting);
        if made_before {
            fs::create_dir(s.cache()).unwrap();
            let owner = fs::metadata(s.ws()).unwrap();
            chown(s.cache(), Some(owner.uid()), Some(owner.gid())).unwrap();
            fs::set_permissions(s.cache(), fs::Permissions::from_mode(0o755)).unwrap();
        }
        s.write("secret", "content of a secret\n");
        s.chmod("secret", 0o600);
        let cmd = || {
            Cmd::sh(
                "umask 077; sort secret > copy; cat secret | tee -a copy; sh -c 'cp secret copy2'",
            )
            .after("umask 0")
        };
        let _ran = s.rfs(cmd()).expect_code(0).expect_ran();
        let cache = s.cache();
        for path in below(&cache) {
            let dir = path.is_dir();
            let own = path == cache && made_before;
            let hidden = !own && dir && mode(&path) == 0o700;
            let file_at_top = !dir && path.parent() == Some(&cache);
            let shut = file_at_top && mode(&path) & 0o077 == 0;
            let below_hidden = !dir && !file_at_top;
            assert!(own || hidden || shut || below_hidden, "{}", path.display());
        }
        let look = format!("cat $(find {} -type f)", cache.display());
        let seen = as_user(STRANGER, &look);
        assert!(!String::from_utf8_lossy(&seen.stdout).contains("secret"));
        // What was recorded of them is served with their modes.
        for name in ["copy", "copy2"] {
            s.remove(name);
        }
        let _served = s.rfs(cmd()).expect_hit();
        for name in ["copy", "copy2"] {
            assert_eq!(mode(&s.path(name)), 0o600);
        }
        let state = below(&s.path(".rfs"));
        assert!(
            state.iter().all(|path| mode(path) & 0o022 == 0),
            "{state:?}"
        );
    }
}

/// A served file is nobody else's to read for a moment either: its temporary name is private.
#[test]
fn a_stage_is_private() {
    let s = TestSpace::new();
    s.write("in", "one\n");
    let cmd = || Cmd::sh("sort in > out").after("umask 0");
    let _ran = s.rfs(cmd()).expect_ran();
    s.remove("out");
    let _served = s.rfs(cmd()).expect_hit();
    assert_eq!(mode(&s.path("out")), 0o666);
    assert_eq!(mode(&s.path(".rfs/stage")), 0o700);
}

/// Who can write to the cache can have anything served: it must be the user, or root.
#[test]
fn a_cache_that_others_can_write_to_is_not_used() {
    let s = TestSpace::new();
    s.write("in", "one\n");
    let cmd = || Cmd::sh("sort in > out");
    let _ran = s.rfs(cmd()).expect_ran();
    let trusted = || fs::set_permissions(s.cache(), fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(s.cache(), fs::Permissions::from_mode(0o777)).unwrap();
    let run = s.rfs(cmd()).expect_ran();
    assert!(
        run.err().contains("can be written by everybody"),
        "{run:#?}"
    );
    trusted();
    chown(s.cache(), Some(STRANGER), None).unwrap();
    let run = s.rfs(cmd()).expect_ran();
    assert!(run.err().contains("belongs to user 65533"), "{run:#?}");
    chown(s.cache(), Some(0), None).unwrap();
    let _hit = s.rfs(cmd()).expect_hit();
}

/// A repository brings along a link where rfs keeps its state, or below it.
#[test]
fn links_in_the_place_of_the_state_lead_nowhere() {
    for link in [".rfs", ".rfs/stage"] {
        let s = TestSpace::new();
        let elsewhere = s.root().join("outside/elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        s.write("in", "one\n");
        let cmd = || Cmd::sh("sort in > out");
        let _ran = s.rfs(cmd()).expect_ran();
        s.remove(link);
        s.remove("out");
        symlink(&elsewhere, s.path(link)).unwrap();
        let run = s.rfs(cmd()).expect_code(0);
        assert_eq!(s.read("out"), "one\n", "{run:#?}");
        assert_eq!(below(&elsewhere).len(), 1, "{link}: {run:#?}");
        assert_eq!(fs::metadata(&elsewhere).unwrap().nlink(), 2);
    }
}

/// A directory is replaced by a link to another one between record and serve: what is written then goes where
/// the bare command would write it, and a directory that the record made is no link any more.
#[test]
fn a_link_planted_between_record_and_serve() {
    let plant = |s: &TestSpace, at: &str| {
        let elsewhere = s.root().join("outside").join("elsewhere");
        drop(fs::remove_dir_all(&elsewhere));
        fs::create_dir_all(elsewhere.join("sub")).unwrap();
        fs::write(elsewhere.join("out"), "precious\n").unwrap();
        fs::write(elsewhere.join("sub/out"), "precious\n").unwrap();
        s.remove(at);
        symlink(&elsewhere, s.path(at)).unwrap();
        elsewhere
    };
    let scripts = [
        ("sort in > d/out", "d"),
        ("sort in > d/sub/out", "d"),
        ("mkdir -p d/sub; sort in > d/sub/out", "d"),
        (
            "rm -rf d; mkdir -p d/sub; sort in > d/sub/out; sort in > d/out",
            "d",
        ),
        ("cd d && sort ../in > sub/out && rm -f out", "d"),
        ("chmod 700 d/sub; touch -d @5 d/sub", "d"),
    ];
    for (script, at) in scripts {
        let s = TestSpace::new();
        s.write("in", "one\n");
        let reset = || {
            s.remove("d");
            s.write("d/sub/keep", "");
            s.write("d/out", "");
        };
        let cmd = || Cmd::sh(script);
        reset();
        let elsewhere = plant(&s, at);
        let bare = s.bare(cmd());
        let (tree, there) = (s.tree(), crate::tree::Tree::read(&elsewhere));
        reset();
        let _ran = s.rfs(cmd()).expect_code(0).expect_ran();
        reset();
        let _hit = s.rfs(cmd()).expect_code(0);
        reset();
        let elsewhere = plant(&s, at);
        let wrapped = s.rfs(cmd());
        assert_same_run(&bare, &wrapped, script);
        assert_same(&tree, &s.tree(), script);
        assert_same(&there, &crate::tree::Tree::read(&elsewhere), script);
    }
}

/// Outputs outside of the workspace are served like others; a link in their way is not followed.
#[test]
fn an_output_outside_whose_parent_became_a_link() {
    let s = TestSpace::new();
    s.write("in", "one\n");
    let (mine, precious) = (s.root().join("mine"), s.root().join("precious"));
    let fill = || {
        for dir in [&mine, &precious] {
            drop(fs::remove_file(dir));
            drop(fs::remove_dir_all(dir));
            fs::create_dir_all(dir.join("sub")).unwrap();
        }
    };
    let cmd = || Cmd::sh("sort in > ../mine/sub/out");
    fill();
    let _ran = s.rfs(cmd()).expect_ran();
    fill();
    let _hit = s.rfs(cmd()).expect_hit();
    assert_eq!(fs::read_to_string(mine.join("sub/out")).unwrap(), "one\n");
    fill();
    fs::remove_dir_all(&mine).unwrap();
    symlink(&precious, &mine).unwrap();
    // The program itself goes there, as it would without us; nothing is served there.
    let _ran = s.rfs(cmd()).expect_code(0).expect_ran();
    assert_eq!(
        fs::read_to_string(precious.join("sub/out")).unwrap(),
        "one\n"
    );
}

/// Everything that a cache consists of is damaged in every way in turn: the build comes out right, whoever can
/// is told what is wrong, and nothing panics, hangs, or takes the memory of the machine.
#[test]
fn a_damaged_cache_costs_time_only() {
    let s = TestSpace::new();
    s.write("in", "one\n");
    s.write(
        "build.sh",
        "sort in > out\nsh -c 'tr a-z A-Z < in > out2'\necho said\n",
    );
    let cmd = || Cmd::from("sh build.sh").after("ulimit -v 4000000");
    let bare = s.bare(cmd());
    let tree = s.tree();
    let n_random = match std::env::var_os("RFS_LONG") {
        Some(_) => 2000,
        None => 20,
    };
    let n_ways = WAYS.len() as u64;
    let _filled = s.rfs(cmd()).expect_ran();
    let n_each = parts(&s.cache()).len() as u64 * n_ways;
    let mut n_hit = 0;
    for round in 0..n_each + n_random {
        if fs::metadata(s.cache().join("VERSION")).is_err() {
            s.must(Cmd::sh("rm -rf ../cache"));
            let _filled = s.rfs(cmd()).expect_ran();
        }
        let mut dice = Dice::new(round);
        let mut done = Vec::new();
        if round < n_each {
            let parts = parts(&s.cache());
            let part = (round / n_ways) as usize;
            done.push(damage(&mut dice, (round % n_ways) as usize, &parts[part]));
        } else {
            let all = below(&s.cache());
            for _ in 0..=dice.roll(3) {
                let way = dice.roll(n_ways) as usize;
                let at = 1 + dice.roll(all.len() as u64 - 1) as usize;
                done.push(damage(&mut dice, way, &all[at]));
            }
        }
        for name in ["out", "out2"] {
            s.remove(name);
        }
        let run = s.rfs(cmd());
        let when = format!("round {round}: {done:?} {run:#?}");
        assert!(!run.err().contains("panicked"), "{when}");
        assert_eq!((run.code(), run.out()), (0, bare.out()), "{when}");
        assert_same(&tree, &s.tree(), &when);
        n_hit += u64::from(run.summary().hit > 0);
        // So that each part is there again.
        s.must(Cmd::sh("rm -rf ../cache"));
        let _filled = s.rfs(cmd()).expect_ran();
    }
    assert!(n_hit > 20, "something can still be served: {n_hit}");
}

/// One of each that a cache consists of.
fn parts(cache: &Path) -> Vec<PathBuf> {
    let mut seen = Vec::new();
    let mut parts = Vec::new();
    for path in below(cache).split_off(1) {
        let inside = path.strip_prefix(cache).unwrap();
        let name = inside.file_name().unwrap().to_owned();
        let depth = inside.iter().count();
        let top = inside.iter().next().unwrap().to_owned();
        let kind = (top, depth, (depth == 1 || name == "lock").then_some(name));
        if !seen.contains(&kind) {
            seen.push(kind);
            parts.push(path);
        }
    }
    parts
}

const WAYS: [&str; 10] = [
    "removed",
    "link to /dev/zero",
    "fifo",
    "directory",
    "of mode 0",
    "4 TiB of nothing",
    "cut",
    "random",
    "flipped",
    "a program",
];

/// Does something to a file or directory of a cache; says what.
fn damage(dice: &mut Dice, way: usize, path: &Path) -> String {
    let said = format!("{}: {}", path.display(), WAYS[way]);
    let Ok(meta) = fs::symlink_metadata(path) else {
        return said;
    };
    let small = meta.is_file() && meta.len() < 1 << 20;
    let mut bytes = match small {
        true => fs::read(path).unwrap(),
        false => vec![],
    };
    // Damaged before: chmod(2) would follow it to a device of this machine.
    if WAYS[way] == "of mode 0" && meta.is_symlink() {
        return said;
    }
    match meta.is_dir() {
        _ if WAYS[way] == "of mode 0" => {}
        true => fs::remove_dir_all(path).unwrap(),
        false => fs::remove_file(path).unwrap(),
    }
    match WAYS[way] {
        "removed" => {}
        "link to /dev/zero" => symlink("/dev/zero", path).unwrap(),
        "fifo" => {
            nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        }
        "directory" => fs::create_dir(path).unwrap(),
        "of mode 0" => fs::set_permissions(path, fs::Permissions::from_mode(0o0)).unwrap(),
        "4 TiB of nothing" => {
            fs::write(path, &bytes).unwrap();
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(1 << 42).unwrap();
        }
        "cut" => {
            bytes.truncate(dice.roll(bytes.len() as u64 + 1) as usize);
            fs::write(path, bytes).unwrap();
        }
        "random" => {
            let random: Vec<u8> = (0..dice.roll(5000)).map(|_| dice.roll(256) as u8).collect();
            fs::write(path, random).unwrap();
        }
        "flipped" => {
            for _ in 0..bytes.len().min(3) {
                let at = dice.roll(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << dice.roll(8);
            }
            fs::write(path, bytes).unwrap();
        }
        _ => drop(fs::copy("/bin/true", path).unwrap()),
    }
    said
}

/// A set-user-ID program that tells who it is.
fn set_id_program(s: &TestSpace, mode: u32) -> PathBuf {
    let path = s.root().join("outside/who");
    let copied = Command::new("cp").arg("/usr/bin/id").arg(&path).status();
    assert!(copied.unwrap().success());
    chown(&path, Some(0), Some(0)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

/// An ordinary user's build cannot gain privileges. It is told so, and what came of it is not kept.
#[test]
fn a_program_that_would_gain_privileges_is_named() {
    for (bits, option) in [(0o4755, "-u"), (0o2755, "-g")] {
        let s = TestSpace::with(NOBODY);
        set_id_program(&s, bits);
        let cmd = || Cmd::new(["../outside/who", option]);
        assert_eq!(s.bare(cmd()).out(), "0\n", "/tmp is mounted with nosuid?");
        for _ in 0..2 {
            let run = s.rfs(cmd()).expect_code(0);
            assert_eq!(run.out(), "65534\n", "{run:#?}");
            let told = run.err();
            assert!(
                told.contains("outside/who") && told.contains("user namespace has no other"),
                "{run:#?}"
            );
            assert!(told.contains("outside of `rfs build`"), "{run:#?}");
            assert_eq!(run.summary().refused, 1, "{run:#?}");
        }
    }
    // Nothing is to be gained from one's own.
    let s = TestSpace::with(NOBODY);
    let path = set_id_program(&s, 0o755);
    chown(&path, Some(65534), Some(65534)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o6755)).unwrap();
    let run = s.rfs(Cmd::new(["../outside/who", "-u"])).expect_code(0);
    assert!(!run.err().contains("namespace"), "{run:#?}");
    assert_eq!(run.summary().refused, 0, "{run:#?}");
}

/// Root's builds are as without us: set-user-ID programs work, for those that gave up root as well.
#[test]
fn set_user_id_programs_work_in_roots_builds() {
    let s = TestSpace::new();
    set_id_program(&s, 0o4755);
    let cmd = || {
        Cmd::sh(
            "setpriv --reuid 65534 --regid 65534 --clear-groups ../outside/who -u\n\
             su nobody -s /bin/sh -c 'id -u'",
        )
    };
    let bare = s.bare(cmd());
    assert_eq!(bare.out(), "0\n65534\n", "{bare:#?}");
    let wrapped = s.rfs(cmd());
    assert_same_run(&bare, &wrapped, "as root");
}
