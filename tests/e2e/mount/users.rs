//! Ordinary users: by fusermount3 and without passthrough; and two users in what root has mounted.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;

use super::Mounted;
use crate::run::{self, Cmd};
use crate::space::Setting;

const NOBODY: Setting = Setting {
    nobody: true,
    tracer: None,
};

#[test]
fn an_ordinary_user_mounts() {
    let m = Mounted::with(NOBODY, &[], |s| {
        s.write("a", "one\n");
        s.write("Makefile", "b: a\n\tcp a b\n");
    });
    assert_eq!(
        m.sh("cat a; make -s; cat b; make -q && echo done"),
        "one\none\ndone\n"
    );
    let uid = m.space.bare(Cmd::sh("stat -c %u b")).expect_code(0).out();
    assert_eq!(uid, "65534\n");
    assert_eq!(m.status()["uid"], 65534);
    // Nobody else is let in.
    let denied = fs::read(m.at.join("a")).unwrap_err();
    assert_eq!(denied.kind(), std::io::ErrorKind::PermissionDenied);
    let built = m.space.rfs(Cmd::sh("cat a > c")).expect_code(0);
    assert_eq!(built.summary().ran, 1, "{built:#?}");
    assert_eq!(m.sh("cat c"), "one\n");
    assert_eq!(m.umount(&[]).expect_code(0).err(), "");
    assert!(!m.is_mounted());
}

/// What root mounts others use as far as modes and owners let them, and only root unmounts.
#[test]
fn two_users_work_in_one_mount() {
    let m = Mounted::new(|s| {
        s.write("secret", "s\n");
        s.chmod("secret", 0o600);
        s.mkdir("all");
        s.chmod("all", 0o1777);
    });
    let (one, other) = (4001, 4002);
    let program = m.space.root().join("copy-of-rfs");
    m.space.must(
        Cmd::new([
            "cp".as_ref(),
            m.space.program().as_os_str(),
            program.as_os_str(),
        ])
        .cwd("/"),
    );
    let as_user = |uid: u32, script: &str| {
        let script = script.replace("RFS", program.to_str().unwrap());
        let mut command = m.space.command(&Cmd::sh(&script), vec![]);
        command.uid(uid).gid(uid);
        let (started, _) = run::start(command, false);
        let (status, out, err) = started.finish(None);
        (
            status.code(),
            [out, err].map(|text| String::from_utf8_lossy(&text).into_owned()),
        )
    };
    let build = "mkdir all/$U && cd all/$U && printf 'x: y\\n\\tcat y > x\\n' > Makefile && echo $U > y && make -s && cat x";
    for uid in [one, other] {
        let (code, [out, err]) = as_user(uid, &build.replace("$U", &uid.to_string()));
        assert_eq!((code, out), (Some(0), format!("{uid}\n")), "{err}");
        let made = fs::metadata(m.at.join(format!("all/{uid}/x"))).unwrap();
        assert_eq!((made.uid(), made.gid()), (uid, uid));
    }
    assert_eq!(as_user(one, "cat secret 2>/dev/null").0, Some(1));
    assert_eq!(
        as_user(one, &format!("echo x > all/{other}/x"))
            .0
            .map(|code| code > 0),
        Some(true)
    );
    let (code, [_, err]) = as_user(one, "cd / && RFS umount \"$OLDPWD\"");
    assert_eq!(code, Some(125));
    assert!(err.contains("only user 0 and root can unmount it"), "{err}");
    assert!(m.is_mounted());
}

/// Owners, modes and groups are those of the directory.
#[test]
fn owners_and_modes_are_kept() {
    let m = Mounted::new(|s| s.write("a", "one\n"));
    chown(m.at.join("a"), Some(4001), Some(4002)).unwrap();
    fs::set_permissions(m.at.join("a"), fs::Permissions::from_mode(0o640)).unwrap();
    let _gone = m.umount(&[]).expect_code(0);
    let meta = fs::metadata(m.space.path("a")).unwrap();
    assert_eq!(
        (meta.uid(), meta.gid(), meta.mode() & 0o7777),
        (4001, 4002, 0o640)
    );
}
