# Sourced by tests/run.sh, doc/try.sh and .ci/run: brings a Debian machine to where rfs can be
# shellcheck shell=sh
# built and tried. Says each thing it does; does nothing that is already there.

# The oldest Rust that builds rfs (rust-version in Cargo.toml).
RUST_MIN=1.85
# What the build needs beside Rust.
# shellcheck disable=SC2034 # for those who source this
BUILD_NEEDS="gcc libc6-dev pkg-config libhwloc-dev libudev-dev"

say() { printf '==> %s\n' "$*" >&2; }
die() { printf '==> %s\n' "$*" >&2; exit 1; }

# need PACKAGE...: install those that are missing.
need() {
    missing=
    if ! command -v dpkg-query >/dev/null; then
        say "not a Debian machine: make sure you have the equivalents of: $*"
        return
    fi
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' ||
            missing="$missing $package"
    done
    # shellcheck disable=SC2086 # names, to be split
    [ -z "$missing" ] || install $missing
}

# install PACKAGE...: as root, or by sudo.
install() {
    say "installing Debian packages: $*"
    if [ "$(id -u)" -eq 0 ]; then
        as_root=
    elif command -v sudo >/dev/null; then
        as_root=sudo
    else
        die "neither root nor sudo: please run 'apt-get install $*' as root, then this again"
    fi
    apt_run update || say "some archives did not answer; going on with the lists that are there"
    apt_run install -y --no-install-recommends "$@" || die "apt-get install $* failed"
}

# Its hundreds of lines are not what people came for; what goes wrong is said on standard error, without
# debconf's line on a bare machine that it cannot ask questions before it unpacks: nobody is to be asked.
apt_run() {
    status=0
    said=$($as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" \
        </dev/null 2>&1 >/dev/null) || status=$?
    [ -z "$said" ] || printf '%s\n' "$said" | sed '/^debconf: delaying package configuration/d' >&2
    return "$status"
}

# A rustc and cargo of at least RUST_MIN, the user's own or Debian's. On Debian 12 the package rustc
# is too old, and rustc-web (which browsers are built with) is not; Ubuntu 24.04 has one by its version.
need_rust() {
    if command -v cargo >/dev/null && rust_is_new_enough; then
        return
    fi
    command -v apt-cache >/dev/null || die "please install Rust $RUST_MIN or newer"
    for suffix in "" -web "-$RUST_MIN"; do
        candidate=$(apt-cache policy "rustc$suffix" | sed -n 's/^ *Candidate: //p')
        if dpkg --compare-versions "${candidate:-0}" ge "$RUST_MIN"; then
            need "rustc$suffix" "cargo$suffix"
            PATH=/usr/bin:/usr/lib/rust-$RUST_MIN/bin:$PATH
            rust_is_new_enough || die "rustc is still older than $RUST_MIN: $(rustc --version)"
            return
        fi
    done
    die "this Debian has no Rust $RUST_MIN or newer; please install one and run this again"
}

rust_is_new_enough() {
    found=$(rustc --version 2>/dev/null | cut -d ' ' -f 2)
    [ "$(printf '%s\n' "$RUST_MIN" "${found:-0}" | sort -V | head -n 1)" = "$RUST_MIN" ]
}

# need_fuse ours|everyones: a /dev/fuse that we may open, or all users, as distributions have it.
need_fuse() {
    if [ ! -e /dev/fuse ] && [ "$(id -u)" -eq 0 ]; then
        say "loading the kernel module fuse"
        modprobe fuse 2>/dev/null || mknod -m 666 /dev/fuse c 10 229 || true
    fi
    [ -e /dev/fuse ] || { say "there is no /dev/fuse: rfs can only run commands plainly"; return; }
    [ "$(stat -c %a /dev/fuse)" = 666 ] && return
    if [ "$(id -u)" -eq 0 ]; then
        [ "$1" = everyones ] || return 0
        say "opening /dev/fuse to all users (chmod 666), as distributions do"
        chmod 666 /dev/fuse
    elif [ ! -r /dev/fuse ] || [ ! -w /dev/fuse ]; then
        say "you may not open /dev/fuse: ask root for 'chmod 666 /dev/fuse'"
    fi
}
