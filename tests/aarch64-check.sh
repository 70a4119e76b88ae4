#!/bin/sh
# Type-checks the whole workspace for 64-bit ARM on another Debian machine: tests/aarch64-check.sh
#
# Nothing is linked or run, so Debian's rustc for this machine is enough, with the standard library from
# the ARM package of the same version. That is unpacked below target/: apt's configuration, its lists and
# the installed packages stay as they are.
set -eu
cd "$(dirname "$0")/.."
# shellcheck source=tests/setup.sh disable=SC1091
. tests/setup.sh

# Rust from elsewhere cannot use Debian's library: take Debian's own.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
target=aarch64-unknown-linux-gnu
work=$(realpath -m "${CARGO_TARGET_DIR:-target}")/aarch64-check

# std_package: the Debian package of the standard library that /usr/bin/rustc goes with.
std_package() {
    for package in libstd-rust-web-dev libstd-rust-dev; do
        if dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed'; then
            echo "$package"
            return
        fi
    done
    die "no libstd-rust-web-dev or libstd-rust-dev: this check needs Debian's rustc"
}

# arm_apt ARGUMENT...: apt-get with everything of its own, for arm64.
arm_apt() {
    apt-get -q -o APT::Architecture=arm64 -o APT::Architectures=arm64 \
        -o Dir::State="$work/apt" -o Dir::State::status="$work/apt/status" \
        -o Dir::Cache="$work/apt/cache" -o Dir::Etc::sourcelist="$work/apt/sources.list" \
        -o Dir::Etc::sourceparts="$work/apt/none" -o APT::Sandbox::User=root "$@" >&2
}

# arm_sources: the user's own archives of Debian, as lines for arm64.
arm_sources() {
    keys=$(ls /usr/share/keyrings/debian-archive-keyring.gpg \
        /usr/share/keyrings/debian-archive-keyring.pgp 2>/dev/null | head -n 1)
    # shellcheck disable=SC2016 # apt's variables
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' \
        'Created-By: Packages' 'Origin: Debian' 'Trusted: yes' | sort -u |
        while read -r uri suite component; do
            echo "deb [arch=arm64${keys:+ signed-by=$keys}] $uri $suite $component"
        done
}

# fetch_std PACKAGE VERSION: unpacks the ARM package into $work/root.
fetch_std() {
    say "fetching $1 $2 for arm64"
    rm -rf "$work"
    mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial" "$work/apt/none"
    : >"$work/apt/status"
    arm_sources >"$work/apt/sources.list"
    [ -s "$work/apt/sources.list" ] || die "apt knows no Debian archive: run 'apt-get update' first"
    arm_apt update
    (cd "$work/apt" && arm_apt download "$1=$2")
    dpkg-deb -x "$work/apt/$1"_*.deb "$work/root"
    rm -r "$work/apt"
    mkdir -p "$work/sysroot/lib/rustlib"
    ln -s "$work/root/usr/lib/rustlib/$target" "$work/sysroot/lib/rustlib/$target"
    echo "$2" >"$work/version"
}

need_rust
# shellcheck disable=SC2086 # names, to be split
need dpkg $BUILD_NEEDS
package=$(std_package)
version=$(dpkg-query -W -f '${Version}' "$package")
[ "$(cat "$work/version" 2>/dev/null)" = "$version" ] || fetch_std "$package" "$version"

# CARGO_FEATURE_*: blake3 must not look for a C compiler for ARM. PKG_CONFIG_*: this machine's hwloc says
# what there is; nothing is linked with it.
exec env PKG_CONFIG_ALLOW_CROSS=1 RUSTFLAGS="-D warnings --sysroot $work/sysroot" \
    CARGO_FEATURE_PURE=1 CARGO_FEATURE_NO_NEON=1 CARGO_TARGET_DIR="$work/target" \
    cargo check --locked --workspace --target "$target" "$@"
