#!/bin/sh
# Try rfs on a real project: sh doc/try.sh [DIR]
#
# Builds rfs, gets the source of Lua from Debian, and builds it twice from a clean tree under
# `rfs build`; shows the two times side by side. Installs what is missing and says so. All else
# that it leaves is in one directory (default: target/try): delete it and it is gone.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
dir=${1:-$here/target/try}
. "$here/tests/setup.sh"

need gcc libc6-dev make dpkg-dev ca-certificates
need_rust
need_fuse

say "building rfs (release)"
target=${CARGO_TARGET_DIR:-$here/target}
(cd "$here" && cargo build --locked --release --quiet)
rfs=$(cd "$target" && pwd)/release/rfs

sh "$here/tests/bench/fetch.sh" "$dir/source" lua
dir=$(cd "$dir" && pwd)
export RFS_CACHE_DIR="$dir/cache"
rm -rf "$RFS_CACHE_DIR"

# build N: a fresh copy of the sources at the same path, built under rfs; its seconds in $seconds.
build() {
    rm -rf "$dir/lua"
    cp -a "$dir/source/lua" "$dir/lua"
    cd "$dir/lua"
    "$rfs" init >/dev/null
    printf '\n$ cd %s\n$ rfs build -- %s\n' "$dir/lua" "make -j2 -C src all MYCFLAGS=-DLUA_USE_LINUX ..."
    start=$(date +%s%N)
    "$rfs" build -- make -j2 -C src all MYCFLAGS=-DLUA_USE_LINUX MYLIBS='-Wl,-E -ldl' \
        </dev/null >"$dir/build-$1.log" 2>"$dir/build-$1.err" || {
        cat "$dir/build-$1.err" >&2
        die "the build failed: see $dir/build-$1.log"
    }
    seconds=$(awk "BEGIN { printf \"%.2f\", ($(date +%s%N) - $start) / 1e9 }")
    grep '^rfs: ' "$dir/build-$1.err" || true
}

build 1
first=$seconds
build 2
second=$seconds
answer=$("$dir/lua/src/lua" -e 'print(6 * 7)')
[ "$answer" = 42 ] || die "the lua that was served does not work: '$answer'"
cmp "$dir/build-1.log" "$dir/build-2.log" || die "the two builds printed different things"

printf '\n%-34s %s s\n%-34s %s s\n' "first build (records)" "$first" \
    "second build, clean tree (served)" "$second"
printf 'The served src/lua runs: 6 * 7 = %s. Everything is in %s\n' "$answer" "$dir"
