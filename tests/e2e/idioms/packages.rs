//! Debian packages: fakeroot, and the build of a real one.

use super::twice;
use crate::probe::Refused;
use crate::run::Cmd;

const PACK: &str = "mkdir -p p/usr/bin p/DEBIAN && install -m 755 -o root -g root a p/usr/bin/a && \
    printf 'Package: a\\nVersion: 1\\nArchitecture: all\\nMaintainer: a <a@b>\\nDescription: a\\n' > p/DEBIAN/control && \
    chown -R root:root p && dpkg-deb -b p a.deb && dpkg-deb -c a.deb | cut -c 1-30";

fn pack(fakeroot: &str) {
    let cmd = Cmd::new([fakeroot, "sh", "-c", PACK]).env("SOURCE_DATE_EPOCH", "1600000000");
    twice(|s| s.write("a", "#!/bin/sh\n"), cmd, Refused);
}

/// Who owns what is kept by a daemon, to which each process talks by System V message queues.
#[test]
fn fakeroot() {
    pack("fakeroot-sysv");
}

/// The same by TCP.
#[test]
fn fakeroot_by_tcp() {
    pack("fakeroot-tcp");
}
