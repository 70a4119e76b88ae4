//! Debian packages: fakeroot, and builds of whole packages.

use super::{age, twice};
use crate::probe::{Expect, Hit, Refused};
use crate::projects::Project;
#[cfg(feature = "long")]
use crate::projects::unpack;
use crate::run::Cmd;
use crate::space::TestSpace;

const PACK: &str = "mkdir -p p/usr/bin p/DEBIAN && install -m 755 -o root -g root a p/usr/bin/a && \
    printf 'Package: a\\nVersion: 1\\nArchitecture: all\\nMaintainer: a <a@b>\\nDescription: a\\n' > p/DEBIAN/control && \
    chown -R root:root p && dpkg-deb -b p a.deb && dpkg-deb -c a.deb | cut -c 1-30";

fn pack(fakeroot: &str, second: Expect) {
    let args = fakeroot.split(' ').chain(["sh", "-c", PACK]);
    let cmd = Cmd::new(args).env("SOURCE_DATE_EPOCH", "1600000000");
    twice(|s| s.write("a", "#!/bin/sh\n"), cmd, second);
}

/// Who owns what is kept by a daemon, to which each process talks by System V message queues: all of
/// that begins and ends inside.
#[test]
fn fakeroot() {
    pack("fakeroot-sysv", Hit);
}

/// The same by TCP, which anybody may come in by.
#[test]
fn fakeroot_by_tcp() {
    pack("fakeroot-tcp", Refused);
}

/// What is kept for a later call names files by their inode numbers, which served ones do not have.
#[test]
fn fakeroot_that_remembers() {
    let cmd = "fakeroot-sysv -s kept chown 7:8 a && fakeroot-sysv -i kept stat -c %u:%g a; rm kept";
    twice(|s| s.write("a", ""), Cmd::sh(cmd), Refused);
}

/// Bare and twice wrapped from the beginning, the second time served whole.
fn build(lay: impl Fn(&TestSpace) + 'static, varies: &'static [&'static str]) {
    let cmd = Cmd::sh("cd package && dpkg-buildpackage -b -us -uc -d")
        .env("DEB_BUILD_OPTIONS", "nocheck");
    let space = TestSpace::new();
    let lay = move |s: &TestSpace| {
        lay(s);
        age(s);
    };
    let runs = Project::laid(lay, [cmd])
        .varies(varies)
        .lists()
        .check(&space);
    assert!(runs[0].summary().whole_hit, "{runs:#?}");
    let package = space
        .bare(Cmd::sh("for one in ./*_*_*.deb; do dpkg-deb -c $one; done"))
        .expect_code(0);
    assert!(package.out().contains(" root/root "), "{package:#?}");
}

/// Compiled as the user, packed as if by root.
#[test]
fn package() {
    let lay = |s: &TestSpace| {
        s.write(
            "package/debian/changelog",
            "tiny (1.0) unstable; urgency=low\n\n  * First.\n\n \
             -- A <a@b>  Sun, 13 Sep 2020 12:26:40 +0000\n",
        );
        s.write(
            "package/debian/control",
            "Source: tiny\nSection: misc\nPriority: optional\nMaintainer: A <a@b>\n\
             Rules-Requires-Root: binary-targets\nStandards-Version: 4.6.2\n\n\
             Package: tiny\nArchitecture: any\nDepends: ${shlibs:Depends}\nDescription: tiny\n",
        );
        s.script(
            "package/debian/rules",
            "#!/usr/bin/make -f\nto = debian/tiny\nbuild: tiny\ntiny: tiny.c\n\tcc -O2 -o $@ $<\n\
             clean:\n\trm -rf tiny debian/tiny debian/files debian/substvars\n\
             binary: build\n\tinstall -D -s -o root -g root tiny $(to)/usr/bin/tiny\n\
             \tmkdir -p $(to)/DEBIAN\n\tdpkg-shlibdeps $(to)/usr/bin/tiny\n\tdpkg-gencontrol -P$(to)\n\
             \tchown -R root:root $(to)\n\tdpkg-deb -b $(to) ..\n\
             build-arch: build\nbuild-indep:\nbinary-arch: binary\nbinary-indep:\n\
             .PHONY: build clean binary build-arch build-indep binary-arch binary-indep\n",
        );
        s.write("package/tiny.c", "int main(void) { return 0; }\n");
    };
    // The time of the build is in the first, and the first one's digest in the second.
    build(lay, &["tiny_1.0_*.buildinfo", "tiny_1.0_*.changes"]);
}

#[cfg(feature = "long")]
fn real(name: &'static str, varies: &'static [&'static str]) {
    let lay = move |s: &TestSpace| {
        unpack(s, name, "package");
        let control = s.read("package/debian/control");
        s.write(
            "package/debian/control",
            control.replace(
                "Rules-Requires-Root: no",
                "Rules-Requires-Root: binary-targets",
            ),
        );
    };
    build(lay, varies);
}

#[cfg(feature = "long")]
#[test]
fn hello() {
    // Besides the times of the build: hashes of Perl, and what has their digests.
    real(
        "hello",
        &[
            "hello_*.buildinfo",
            "hello_*.changes",
            "package/config.log",
            "package/autom4te.cache/*",
            "package/debian/autoreconf.after",
        ],
    );
}

/// With its manual, which takes TeX to print.
#[cfg(feature = "long")]
#[test]
fn bash() {
    // Besides the times of the build: ld repeats the random names of gcc's temporary files.
    real(
        "bash",
        &[
            "bash_*.buildinfo",
            "bash_*.changes",
            "package/build-bash/config.log",
            "package/build-static/config.log",
        ],
    );
}
