#!/bin/sh
# Try rfs on a real project: sh doc/try.sh [DIR]
#
# Builds rfs, gets the source of Lua from Debian, and builds it from a clean tree: plainly, then
# twice under `rfs build`, then once more with one file edited; shows the times side by side.
# Installs what is missing and says so. All else that it leaves is in one directory (default:
# target/try): delete it and it is gone.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
dir=${1:-$here/target/try}
. "$here/tests/setup.sh"

# shellcheck disable=SC2086 # names, to be split
need $BUILD_NEEDS make dpkg-dev ca-certificates
need_rust
need_fuse ours

say "building rfs (release)"
target=${CARGO_TARGET_DIR:-$here/target}
(cd "$here" && cargo build --locked --release --quiet)
rfs=$(cd "$target" && pwd)/release/rfs

sh "$here/tests/bench/fetch.sh" "$dir/source" lua
dir=$(cd "$dir" && pwd)
export RFS_CACHE_DIR="$dir/cache"
rm -rf "$RFS_CACHE_DIR"

# fresh: a copy of the source as it was, always at the same path.
fresh() {
    rm -rf "$dir/lua"
    cp -a "$dir/source/lua" "$dir/lua"
    cd "$dir/lua"
    "$rfs" init >/dev/null
}

# build NAME [FRONT...]: builds; the time it took is in $seconds.
build() {
    name=$1
    shift
    printf '\n$ %smake -j2 -C src all ...\n' "${1:+rfs build -- }"
    start=$(date +%s%N)
    "$@" make -j2 -C src all MYCFLAGS=-DLUA_USE_LINUX MYLIBS='-Wl,-E -ldl' \
        </dev/null >"$dir/$name.log" 2>"$dir/$name.err" || {
        cat "$dir/$name.err" >&2
        die "the build failed: see $dir/$name.log; '$rfs doctor' says what this machine allows"
    }
    seconds=$(awk "BEGIN { printf \"%.2f\", ($(date +%s%N) - $start) / 1e9 }")
    grep '^rfs: ' "$dir/$name.err" || true
}

fresh
build plain
plain=$seconds
fresh
build first "$rfs" build --strict --
first=$seconds
fresh
build second "$rfs" build --strict --
second=$seconds
cmp "$dir/first.log" "$dir/second.log" || die "the two builds printed different things"
answer=$(src/lua -e 'print(6 * 7)')
[ "$answer" = 42 ] || die "the lua that was served does not work: '$answer'"
fresh
printf '\n$ echo "/* edited */" >>src/lapi.c'
echo "/* edited */" >>src/lapi.c
build edited "$rfs" build --strict --
edited=$seconds

echo
printf '%-40s %6s s\n' \
    "without rfs" "$plain" \
    "first build under rfs (records)" "$first" \
    "second build, clean tree (served)" "$second" \
    "clean tree, one file edited" "$edited"
printf '\nThe served src/lua runs: 6 * 7 = %s. Everything is in %s\n' "$answer" "$dir"
