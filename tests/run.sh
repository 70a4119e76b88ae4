#!/bin/sh
# All tests: sh tests/run.sh [ARGS for the test runner]
#
# Installs what is missing (Debian packages, by sudo when not root; Rust from Debian if there is
# none), builds, then runs the unit tests and, last, the end-to-end tests on real projects.
set -eu
cd "$(dirname "$0")/.."
. tests/setup.sh

# shellcheck disable=SC2086 # names, to be split
need $BUILD_NEEDS make python3 strace busybox-static dpkg-dev ca-certificates \
    binutils diffutils procps util-linux mount git rsync hwloc-nox \
    g++ perl m4 autoconf automake cmake ninja-build musl-tools libtool meson gcc-multilib ccache gdb \
    fakeroot gfortran patchelf nodejs systemd python3-dev python3-pip python3-setuptools python3-wheel
[ -z "${RFS_LONG-}" ] || need debhelper help2man texinfo texi2html bison gettext sharutils libncurses-dev \
    libopenmpi-dev openmpi-bin default-jdk-headless
need_rust
need_fuse everyones

# need_suite NAME VERSION: a conformance suite from cargo's registry, kept in the target directory.
tools=${CARGO_TARGET_DIR:-target}/tools
need_suite() {
    grep -qs "^\"$1 $2 " "$tools/.crates.toml" && return
    say "installing the suite $1 $2 into $tools"
    cargo install --locked --debug --root "$tools" --target-dir "$tools/build" "$1@$2"
}
need_suite pjdfstest 0.2.2
need_suite fsx 0.3.2
rm -rf "$tools/build"

# The names of the test programs of package rfs but the end-to-end one, as options for cargo.
others() {
    for main in tests/*.rs tests/*/main.rs; do
        name=${main%/main.rs}
        name=$(basename "$name" .rs)
        [ ! -f "$main" ] || [ "$name" = e2e ] || printf -- '--test %s ' "$name"
    done
}

say "building"
cargo test --locked --workspace --no-run
say "unit tests"
cargo test --locked --workspace --lib "$@"
say "the mount and the tracer against the kernel"
cargo test --locked -p rfs-fs -p rfs-tracer --test '*' "$@"
say "rules of the house, command line"
# shellcheck disable=SC2046 # options, to be split
cargo test --locked -p rfs $(others) "$@"
say "end-to-end tests"
cargo test --locked -p rfs --test e2e "$@"
