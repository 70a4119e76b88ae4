#!/bin/sh
# Fetch real projects to build: sh tests/bench/fetch.sh DIR PROJECT...
#
# PROJECT is one of lua zstd xz redis hello bash make memcached sqlite vim coreutils calc lsof protobuf autoconf
# (Debian's source packages as upstream wrote them, without Debian's patches) or cargo (a crate with its dependencies vendored). Each ends up
# pristine in DIR/PROJECT and is not fetched again. Root is not needed and the system's apt
# configuration is not changed: apt gets a configuration and lists of its own in DIR/apt.
# With FETCH_SUITE=trixie or the like sources come from that release of Debian instead of the
# machine's own; it goes with a DIR of its own.
set -eu

[ $# -ge 2 ] || { echo "usage: sh $0 DIR lua|zstd|xz|redis|hello|bash|cargo..." >&2; exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
shift

say() { echo "fetch: $*" >&2; }
die() { say "$*"; exit 1; }

package_of() {
    case $1 in
    lua) echo lua5.4 ;;
    zstd) echo libzstd ;;
    xz) echo xz-utils ;;
    make) echo make-dfsg ;;
    sqlite) echo sqlite3 ;;
    calc) echo apcalc ;;
    redis | hello | bash | memcached | vim | coreutils | lsof | protobuf | autoconf) echo "$1" ;;
    *) die "unknown project '$1' (the known ones are named in $0)" ;;
    esac
}

# apt with the user's own mirrors but private lists. After `prepare_apt` only our deb-src
# lines are known to it.
private_apt() {
    apt-get -q -o Dir::State::lists="$dir/apt/lists" -o Dir::Cache="$dir/apt/cache" \
        -o APT::Sandbox::User="$(id -un)" "$@"
}

# The user's binary archives, as deb-src lines.
deb_src_lines() {
    keys=$(ls /usr/share/keyrings/debian-archive-keyring.gpg \
        /usr/share/keyrings/debian-archive-keyring.pgp 2>/dev/null | head -n 1)
    for origin in Debian Ubuntu; do
        apt-get indextargets "$@" --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' \
            'Created-By: Packages' "Origin: $origin" 'Trusted: yes'
    done | sort -u | while read -r uri suite component; do
        if [ -n "${FETCH_SUITE-}" ]; then
            # Not those of updates.
            [ "$suite" = "$(. /etc/os-release && echo "$VERSION_CODENAME")" ] || continue
            suite=$FETCH_SUITE
        fi
        echo "deb-src ${keys:+[signed-by=$keys] }$uri $suite $component"
    done
}

prepare_apt() {
    command -v apt-get >/dev/null || die "apt-get is not here: this script needs Debian or a relative"
    command -v dpkg-source >/dev/null || die "dpkg-source is not here: apt-get install dpkg-dev"
    mkdir -p "$dir/apt/lists/partial" "$dir/apt/cache/archives/partial" "$dir/apt/parts"
    [ -s "$dir/apt/sources.list" ] || {
        deb_src_lines >"$dir/apt/sources.new"
        if [ ! -s "$dir/apt/sources.new" ]; then
            say "reading the lists of the configured archives"
            private_apt update >"$dir/apt/log" 2>&1 || say "some archives did not answer: see $dir/apt/log"
            deb_src_lines -o Dir::State::lists="$dir/apt/lists" >"$dir/apt/sources.new"
        fi
        [ -s "$dir/apt/sources.new" ] || die "apt knows no Debian archive: see $dir/apt/log"
        mv "$dir/apt/sources.new" "$dir/apt/sources.list"
    }
    say "reading the lists of source packages"
    src_apt update >"$dir/apt/log" 2>&1 || die "apt-get update failed: see $dir/apt/log"
}

src_apt() {
    private_apt -o Dir::Etc::sourcelist="$dir/apt/sources.list" \
        -o Dir::Etc::sourceparts="$dir/apt/parts" "$@"
}

fetch_debian() {
    project=$1
    package=$(package_of "$project")
    [ -n "${apt_ready-}" ] || { prepare_apt; apt_ready=1; }
    rm -rf "$dir/apt/get" "$dir/$project.new"
    mkdir -p "$dir/apt/get"
    say "$project: getting the source package $package"
    (cd "$dir/apt/get" && src_apt source --download-only "$package") >"$dir/apt/log" 2>&1 ||
        die "apt-get source $package failed: see $dir/apt/log"
    dpkg-source --no-copy --skip-patches -x "$dir/apt/get"/*.dsc "$dir/$project.new" \
        >"$dir/apt/log" 2>&1 || die "dpkg-source failed: see $dir/apt/log"
    rm -rf "$dir/apt/get"
    mv "$dir/$project.new" "$dir/$project"
}

# A crate with a library, a program and a build script, its dependencies vendored beside it.
# What only its tests need is cut out of its manifest, so that nothing else has to be fetched.
fetch_cargo() {
    crate=pulldown-cmark version=0.13.0
    command -v cargo >/dev/null || die "cargo is not here"
    rm -rf "$dir/cargo.get" "$dir/cargo.new"
    mkdir -p "$dir/cargo.get/src"
    : >"$dir/cargo.get/src/lib.rs"
    cat >"$dir/cargo.get/Cargo.toml" <<EOF
[package]
name = "get"
version = "0.0.0"
edition = "2021"
[dependencies]
$crate = "=$version"
[workspace]
EOF
    say "cargo: getting the crate $crate $version"
    (cd "$dir/cargo.get" && cargo vendor -q vendor >/dev/null) || die "cargo vendor failed"
    mv "$dir/cargo.get/vendor/$crate" "$dir/cargo.new"
    mv "$dir/cargo.get/vendor" "$dir/cargo.new/vendor"
    mkdir -p "$dir/cargo.new/.cargo"
    cat >"$dir/cargo.new/.cargo/config.toml" <<EOF
[source.crates-io]
replace-with = "vendored"
[source.vendored]
directory = "vendor"
[net]
offline = true
EOF
    awk '
        /^\[/ { drop = /^\[dev-dependencies/ || /^\[dependencies\.serde\]/ }
        !drop
        /^\[features\]/ { print "serde = []" }
        END { print "[workspace]" }
    ' "$dir/cargo.new/Cargo.toml" >"$dir/cargo.get/Cargo.toml"
    mv "$dir/cargo.get/Cargo.toml" "$dir/cargo.new/Cargo.toml"
    rm -rf "$dir/cargo.new/.cargo-checksum.json" "$dir/cargo.new/Cargo.lock" "$dir/cargo.get"
    (cd "$dir/cargo.new" && cargo generate-lockfile -q) || die "cargo generate-lockfile failed"
    mv "$dir/cargo.new" "$dir/cargo"
}

for project in "$@"; do
    if [ -d "$dir/$project" ]; then
        continue
    elif [ "$project" = cargo ]; then
        fetch_cargo
    else
        fetch_debian "$project"
    fi
    say "$project: $dir/$project"
done
