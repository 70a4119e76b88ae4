#!/bin/sh
# Installs, as root on a fresh Debian or Ubuntu, what docker/validate.sh needs: sh docker/prepare.sh
set -eu
cd "$(dirname "$0")/.."

export DEBIAN_FRONTEND=noninteractive
apt-get -q update
apt-get -q install -y --no-install-recommends ca-certificates debhelper dpkg-dev lintian man-db \
    passwd python3-minimal util-linux
# What debian/control says that a build needs.
apt-get -q build-dep -y --no-install-recommends ./
