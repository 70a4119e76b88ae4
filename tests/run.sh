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
    binutils diffutils openssl procps util-linux mount git rsync hwloc-nox \
    g++ perl m4 autoconf automake cmake ninja-build musl-tools libtool meson gcc-multilib ccache gdb \
    fuse3 fakeroot xz-utils gfortran libmpich-dev patchelf nodejs zsh fish tmux vim systemd \
    python3-dev python3-pip python3-setuptools python3-wheel valgrind
# RFS_LONG: the long forms of the tests, and those that have no other (the feature `long`).
long=${RFS_LONG:+--features=long}
[ -z "${RFS_LONG-}" ] || need debhelper help2man texinfo texi2html bison gettext sharutils libncurses-dev \
    libopenmpi-dev openmpi-bin default-jdk-headless chromium texlive-latex-base texlive-fonts-recommended ghostscript \
    man2html-base
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

# Tools that are newer than those of Debian 12, for the tests of one budget for all.
if [ ! -x "$tools/ninja-1.13.0/bin/ninja" ]; then
    say "installing ninja 1.13.0 into $tools"
    python3 -m pip install -q --disable-pip-version-check --root-user-action=ignore \
        --no-deps --target "$tools/ninja-1.13.0" ninja==1.13.0
fi
if [ -n "${RFS_LONG-}" ] && [ ! -d "$tools/spdx-tools-0.8.5" ]; then
    say "installing spdx-tools 0.8.5 into $tools"
    python3 -m pip install -q --disable-pip-version-check --root-user-action=ignore \
        --target "$tools/spdx-tools-0.8.5" spdx-tools==0.8.5
fi
if [ ! -x "$tools/make-4.4.1/make" ]; then
    say "building GNU make 4.4.1 of Debian 13 in $tools"
    FETCH_SUITE=trixie sh tests/bench/fetch.sh "$tools/trixie" make
    # Debian has left out its manual, which is not free.
    (cd "$tools/trixie/make" && mkdir -p doc && : >doc/Makefile.in &&
        ./configure -q --disable-nls --without-guile --disable-dependency-tracking && sh build.sh) \
        >"$tools/trixie/log" 2>&1 || die "make cannot be built: see $tools/trixie/log"
    mkdir -p "$tools/make-4.4.1"
    mv "$tools/trixie/make/make" "$tools/make-4.4.1"
    rm -rf "$tools/trixie"
fi

# The names of the test programs of package rfs but the end-to-end one, as options for cargo.
others() {
    for main in tests/*.rs tests/*/main.rs; do
        name=${main%/main.rs}
        name=$(basename "$name" .rs)
        [ ! -f "$main" ] || [ "$name" = e2e ] || printf -- '--test %s ' "$name"
    done
}

say "building"
cargo test --locked --workspace $long --no-run
say "unit tests"
cargo test --locked --workspace $long --lib "$@"
say "the mount and the tracer against the kernel"
cargo test --locked -p rfs-fs -p rfs-tracer --test '*' "$@"
say "rules of the house, command line"
# shellcheck disable=SC2046 # options, to be split
cargo test --locked -p rfs $long $(others) "$@"
say "end-to-end tests"
cargo test --locked -p rfs $long --test e2e "$@"
