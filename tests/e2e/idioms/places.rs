//! Where a workspace lies and what lies in it: other filesystems, mounts, links on the way, namespaces.

use super::{c_project, mounted, twice};
use crate::probe::{AtMost, Hit, Refused};
use crate::run::Cmd;
use crate::space::TestSpace;

const BUILD: &str = "pwd; pwd -P; cc -g -c -Iinclude src/part.c && cc -g -Iinclude src/main.c part.o -o tiny \
                     && ./tiny > out && cat out";

#[test]
fn workspace_reached_by_a_link() {
    let cmd = Cmd::sh(BUILD).after("rm -f ../link; ln -s \"$PWD\" ../link; cd ../link");
    twice(c_project, cmd, Hit);
}

#[test]
fn directory_of_the_workspace_reached_by_a_link_above_it() {
    let above =
        "rm -f ../outside/up; ln -s \"$(dirname \"$PWD\")\" ../outside/up; cd ../outside/up/ws/src";
    let cmd = Cmd::sh("pwd; pwd -P; cc -g -c -I../include part.c; ls").after(above);
    twice(
        |s| {
            c_project(s);
            s.mkdir(".git");
        },
        cmd,
        Hit,
    );
}

/// The workspace is a tmpfs; what is left in it is packed to be compared.
#[test]
fn workspace_on_another_filesystem() {
    let before = "cp -a . ../outside/copy; mount -t tmpfs none .; cd \"$PWD\"; cp -a ../outside/copy/. .; \
                  rm -r ../outside/copy";
    let cmd =
        format!("{BUILD} && cp part.o tiny out ../outside && cat ../outside/out; rm ../outside/*");
    twice(c_project, mounted(Cmd::sh(&cmd), before), Hit);
}

/// Mounts inside the workspace: an empty filesystem, and a directory at a second place.
#[test]
fn mounts_inside_the_workspace() {
    let lay = |s: &TestSpace| {
        c_project(s);
        s.write("other/one", "1\n");
        s.mkdir("tmp");
        s.mkdir("bound");
    };
    let before = "mount -t tmpfs none tmp; echo old > tmp/old; touch -d @1600000000 tmp/old; \
                  mount --bind other bound";
    let cmd = "cc -c -Iinclude src/part.c -o tmp/part.o; cat bound/one > tmp/new; echo two > bound/two; \
               ls tmp bound; mv tmp/new out; cp tmp/part.o .; ln tmp/old linked || echo no link";
    twice(lay, mounted(Cmd::sh(cmd), before), Hit);
}

/// A file that is another one by a mount: what is written to one changes both.
#[test]
fn file_mounted_on_another() {
    let lay = |s: &TestSpace| {
        s.write("a", "1\n");
        s.write("b", "2\n");
    };
    let cmd = "cat b > c; echo 3 > b; cat a b";
    twice(lay, mounted(Cmd::sh(cmd), "mount --bind a b"), AtMost(1));
}

/// New namespaces and roots are let go and not recorded; the steps inside them that can be known are.
#[test]
fn namespaces_and_roots() {
    let user =
        "unshare -U -r sh -c 'id -u; cc -c -Iinclude src/part.c; touch made; stat -c %u made'";
    let mount = "unshare -r -m sh -c 'mount -t tmpfs none src; touch src/hidden; ls src; cat include/part.h > h'; ls src";
    let pid = "unshare -r -p -f --mount-proc sh -c 'cc -c -Iinclude src/part.c; echo $$; sh -c \"sort src/part.c > sorted\"'";
    for cmd in [user, mount, pid] {
        let both = format!("{cmd}; cc -c -Iinclude src/main.c");
        twice(c_project, Cmd::sh(&both), Refused);
    }
}

#[test]
fn chroot_inside_the_build() {
    let lay = |s: &TestSpace| {
        s.mkdir("root/bin");
        s.must("cp /bin/busybox root/bin/busybox");
        s.write("root/work/in", "one\n");
    };
    let cmd = "chroot root /bin/busybox sh -c 'cd /work; /bin/busybox cat in > out; /bin/busybox ls /; pwd'; \
               cat root/work/out > copy";
    twice(lay, Cmd::sh(cmd), Refused);
}
