#!/bin/sh
# The Debian package's whole life in a chroot of its own: sh tests/package.sh [SUITE [DEB]]
#
# SUITE: bookworm (default), trixie or noble. Makes the chroot with debootstrap, builds there from
# vendored crates with the distribution's own Rust and without the network (or takes DEB), then lints,
# installs, uses, upgrades, removes and purges (docker/validate.sh). As root; a build takes minutes.
# All that it leaves is in target/package: built crates of each suite, and its packages, for the next time.
set -eu
cd "$(dirname "$0")/.."
# shellcheck source=tests/setup.sh disable=SC1091
. tests/setup.sh

suite=${1:-bookworm}
deb=${2-}
[ "$(id -u)" -eq 0 ] || die "a chroot is root's to make"
need debootstrap util-linux
need_fuse everyones
case $suite in
noble)
    need ubuntu-keyring
    how="--components=main,universe --keyring=/usr/share/keyrings/ubuntu-archive-keyring.gpg"
    # What debootstrap has for every Ubuntu, by its oldest name.
    from="http://archive.ubuntu.com/ubuntu gutsy"
    ;;
*)
    # shellcheck disable=SC2016 # apt's variable
    archive=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' | head -n 1)
    how="--components=main" from="$archive sid"
    ;;
esac
work=$(realpath -m "${CARGO_TARGET_DIR:-target}")/package
base=$work/$suite.tar
root=$work/root-$suite
mkdir -p "$work"

if [ ! -e "$base" ]; then
    say "debootstrap $suite"
    rm -rf "$root"
    # shellcheck disable=SC2086 # options, to be split
    debootstrap $how --variant=minbase "$suite" "$root" $from
    [ "$suite" != noble ] || echo "deb ${from% *} noble-updates main universe" \
        >"$root/etc/apt/sources.list.d/updates.list"
    tar -C "$root" -cf "$base.new" .
    mv "$base.new" "$base"
else
    rm -rf "$root"
    mkdir "$root"
    tar -C "$root" -xf "$base"
fi

mkdir -p "$root/build/rfs" "$work/target-$suite" "$work/apt-$suite"
# The tree as git has it, with what is not committed yet.
git ls-files -z --cached --others --exclude-standard | tar --null -T - -cf - | tar -C "$root/build/rfs" -xf -
if [ -n "$deb" ]; then
    cp "$deb" "$root/build/"
    deb=/build/$(basename "$deb")
else
    need_rust
    say "vendoring crates"
    (cd "$root/build/rfs" && debian/rules vendor)
fi
cp /etc/resolv.conf "$root/etc/"

# As a container does it, by pivot_root: in a chroot nobody may make user namespaces. The mounts end with
# their namespace. rfs needs /dev/fuse, its tests /dev/shm and a terminal's devices.
# shellcheck disable=SC2016 # the inner shell's variables
unshare --mount --propagation private sh -eu -c '
    root=$1; work=$2; suite=$3; deb=$4
    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"
    mount -t sysfs -o ro sys "$root/sys"
    mount -t tmpfs -o mode=755 dev "$root/dev"
    for device in null zero full random urandom tty fuse; do
        : >"$root/dev/$device"
        mount --bind "/dev/$device" "$root/dev/$device"
    done
    mkdir -m 1777 "$root/dev/shm"
    ln -s /proc/self/fd "$root/dev/fd"
    mkdir -p "$root/build/target"
    mount --bind "$work/target-$suite" "$root/build/target"
    mount --bind "$work/apt-$suite" "$root/var/cache/apt/archives"
    mkdir -p "$root/build/packages" "$work/packages-$suite"
    mount --bind "$work/packages-$suite" "$root/build/packages"
    cd "$root"
    pivot_root . mnt
    umount -l mnt
    inside() { env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
    if [ -z "$deb" ]; then
        inside sh /build/rfs/docker/prepare.sh
    else
        inside sh -c "apt-get -q update && apt-get -q install -y --no-install-recommends lintian dpkg-dev man-db passwd python3-minimal util-linux"
    fi
    inside CARGO_TARGET_DIR=/build/target sh /build/rfs/docker/validate.sh $deb
    # Those that were built here.
    cp /build/rfs*_*.deb /build/packages/
' sh "$root" "$work" "$suite" "$deb"
rm -rf "$root"
