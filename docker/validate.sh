#!/bin/sh
# Builds the Debian package without the network, and puts it through its life: lint, install, use,
# upgrade, remove, purge.   sh docker/validate.sh [DEB]
#
# It installs and removes packages and makes a user: run it as root where that does no harm, in a
# container (docker/Dockerfile) or in a chroot (tests/package.sh). DEB: a package that was built before.
set -eu
cd "$(dirname "$0")/.."
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

say() { printf '==> %s\n' "$*" >&2; }
die() { printf '==> %s\n' "$*" >&2; exit 1; }

# is WHAT FOUND WANTED
is() { [ "$2" = "$3" ] || die "$1 is '$2', not '$3'"; }

[ "$(id -u)" -eq 0 ] || die "this must be root's, in a machine that can be thrown away"
! dpkg-query -W rfs >/dev/null 2>&1 || die "rfs is installed here: not a machine to be thrown away"

deb=${1-}
if [ -z "$deb" ]; then
    say "building, without the network"
    [ -d vendor ] || die "there is no vendor/: run debian/rules vendor first"
    unshare --net dpkg-buildpackage -us -uc -b
    deb=$(ls ../rfs_*.deb)
    say "lintian"
    lintian --fail-on error,warning ../rfs_*.changes
else
    say "lintian"
    lintian --fail-on error,warning "$deb"
fi
deb=$(realpath "$deb")
work=$(mktemp -d)
chmod 755 "$work"

# What its tests use, and who reads its profile.
apt-get -q install -y --no-install-recommends apparmor gcc libc6-dev make

# Everything of ours outside of homes, by name.
ours() { find /etc /usr /var/cache /var/lib/systemd -xdev -name '*rfs*' ! -path '/usr/src/*' | sort; }
ours >"$work/before"

say "install"
apt-get -q install -y --no-install-recommends "$deb"
version=$(dpkg-query -W -f '${Version}' rfs)
is "the program's version" "$(rfs --version)" "rfs ${version%-*}"
is "/var/cache/rfs" "$(stat -c '%a %U %G' /var/cache/rfs)" "3770 root rfs"
for file in /usr/share/man/man1/rfs-cache-gc.1.gz /usr/share/bash-completion/completions/rfs \
    /usr/share/zsh/vendor-completions/_rfs /usr/share/fish/vendor_completions.d/rfs.fish \
    /usr/lib/systemd/system/rfs@.service /usr/lib/systemd/user/rfs-cache-gc.timer \
    /usr/share/doc/rfs/copyright /etc/rfs/config.toml; do
    # A minimal container leaves documentation out.
    [ -e "$file" ] || ! grep -qs "^$file$" "/var/lib/dpkg/info/rfs.list" ||
        grep -qrs path-exclude /etc/dpkg/dpkg.cfg.d || die "$file is not there"
    grep -q "^$file$" /var/lib/dpkg/info/rfs.list || die "the package lacks $file"
done
is "the configuration's package" "$(dpkg -S /etc/rfs/config.toml)" "rfs: /etc/rfs/config.toml"

# Where the profile can be read, the package has it, if it was built here.
if [ -e /etc/apparmor.d/abi/4.0 ]; then
    say "the AppArmor profile"
    apparmor_parser --skip-kernel-load --skip-cache debian/rfs.apparmor
    [ -n "${1-}" ] || [ -e /etc/apparmor.d/rfs ] || die "the package lacks its profile"
fi

say "use"
useradd --create-home --groups rfs tester
# as USER COMMAND...: with nothing of our own environment.
as() {
    user=$1
    shift
    home=$(getent passwd "$user" | cut -d : -f 6)
    (cd "$home" && setpriv --reuid "$user" --regid "$user" --init-groups \
        env -i HOME="$home" PATH=/usr/bin:/bin "$@")
}
cp -r debian/tests "$work/tests"
for test in $(sed -n 's/^Tests: //p' debian/tests/control | tr -d ,); do
    for user in root tester; do
        say "autopkgtest $test as $user"
        # What it prints goes to a file that has a name here: a log of the caller's may have none.
        as $user "$work/tests/$test" >"$work/log" 2>&1 || { cat "$work/log"; die "$test failed"; }
        cat "$work/log"
    done
done
as tester sh -c 'exec >log 2>&1; mkdir w && cd w && rfs init && echo one >in && rfs build --strict -- sh -c "sort in >out"'

say "upgrade"
echo '# a change' >>/etc/rfs/config.toml
dpkg-deb -R "$deb" "$work/next"
sed -i "s/^Version: .*/&+next/" "$work/next/DEBIAN/control"
dpkg-deb --root-owner-group -b "$work/next" "$work/next.deb" >/dev/null
# As apt does it: with nobody to ask, a changed configuration stays.
dpkg -i "$work/next.deb"
is "the version" "$(dpkg-query -W -f '${Version}' rfs)" "$version+next"
is "the configuration's end" "$(tail -n 1 /etc/rfs/config.toml)" '# a change'
# What was recorded before is served after it.
as tester sh -c 'exec >>log 2>&1; cd w && rm out && rfs build --strict --summary ../sum -- sh -c "sort in >out" && cat out'
grep -q '"whole": *"hit"' /home/tester/sum || die "nothing was served after the upgrade"
as tester sh -c 'cd /var/cache/rfs && mkdir kept'

say "remove"
apt-get -q remove -y rfs
[ ! -e /usr/bin/rfs ] || die "/usr/bin/rfs is still there"
is "the configuration's end" "$(tail -n 1 /etc/rfs/config.toml)" '# a change'
[ -d /var/cache/rfs/kept ] || die "the cache did not outlive the package"

say "install again, purge"
apt-get -q install -y --no-install-recommends "$deb"
apt-get -q purge -y rfs
ours | diff "$work/before" - || die "this is left after purge"
[ ! -e /etc/rfs ] || die "/etc/rfs is left after purge"
userdel --remove tester 2>/dev/null || true
rm -r "$work"
say "the package holds"
