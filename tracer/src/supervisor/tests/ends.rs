//! What becomes of a process: another program, or its end.

use super::*;

#[test]
fn executing() {
    let mut rig = Rig::new();
    let argv = |name: &CStr| vec![name.as_ptr() as u64, 0];
    let (run, exit, none) = (argv(c"run"), argv(c"exit"), [0_u64]);
    let script = |rig: &Rig, name: &str, text: &str, mode| {
        let mut file = fs::File::create(rig.path(name)).unwrap();
        io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        fs::set_permissions(rig.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    let exec = |rig: &mut Rig, name: &str, argv: &[u64]| {
        let at = rig.name(name);
        rig.tell("execve", &[at, argv.as_ptr() as u64, none.as_ptr() as u64])
    };
    // Each exec is followed by a call of the old program, so it has failed.
    script(&rig, "s", "#!/bin/sh -e\n", 0o755);
    let told = exec(&mut rig, "s", &run);
    assert!(
        told[0].starts_with("exec \"s\" [Walk { path: \"/"),
        "{told:?}"
    );
    assert!(
        told[0].contains("sh\"") && told[0].matches("Walk").count() == 2,
        "{told:?}"
    );
    let none_there = exec(&mut rig, "none", &run);
    assert_eq!(
        none_there,
        ["exec failed".into(), format!("access {} 1", absent("none"))]
    );
    script(&rig, "plain", "#!/bin/sh\n", 0o644);
    assert_eq!(
        exec(&mut rig, "plain", &run),
        [format!("access {} 1", file("plain"))]
    );
    script(&rig, "bad", "#!/nowhere/sh\n", 0o755);
    let opened = format!("open {} 0x0 0", file("bad"));
    let missing = format!("access {} 1", walk("/nowhere", "MissingDir"));
    assert_eq!(exec(&mut rig, "bad", &run), [opened, missing]);
    script(&rig, "text", "echo hello\n", 0o755);
    assert_eq!(
        exec(&mut rig, "text", &run),
        [format!("open {} 0x0 0", file("text"))]
    );
    script(
        &rig,
        "loop",
        &format!("#!{}\n", rig.path("loop").display()),
        0o755,
    );
    let told = exec(&mut rig, "loop", &run);
    assert!(told.iter().all(|line| line.starts_with("open")), "{told:?}");
    let me = std::env::current_exe().unwrap();
    let me = rig.text(me.as_os_str().as_bytes());
    let told = rig.tell("execve", &[me, run.as_ptr() as u64, none.as_ptr() as u64]);
    assert!(told[0].contains("ld-linux"), "{told:?}");
    let verdict = rig.call("execve", &[me, exit.as_ptr() as u64, none.as_ptr() as u64]);
    assert_eq!(verdict, Verdict::Exit(7));
    let told = rig.log.take();
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(
        (told[0].as_str(), told[2].as_str()),
        ("exec failed", "exit 7")
    );
    assert_eq!(rig.tell("exit_group", &[7]), [""; 0], "told already");
}

#[test]
fn the_end_is_told_once() {
    let rig = Rig::new();
    assert_eq!(rig.tell("exit_group", &[0x1ff]), ["exit 255"]);
    assert_eq!(rig.tell("exit_group", &[1]), [""; 0]);
}

#[test]
fn threads_of_an_ending_process_are_held() {
    let rig = Rig::new();
    assert_eq!(rig.tell("exit_group", &[0]), ["exit 0"]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let Decision::Later(work) = rig.decide("unlink", &[1], true) else {
                panic!("not held");
            };
            assert_eq!(work(&Stopped(false)), Verdict::Go);
            assert_eq!(rig.log.take(), [""; 0]);
        });
    });
}
