# shellcheck shell=sh
# Sourced by the commands beside it: the virtual environment that they share, and Debian packages. Needs $root.

venv=${IMSERVER_VENV:-$root/.venv}
case $venv in /*) ;; *) venv=$PWD/$venv ;; esac

say() { printf 'imserver: %s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }

# prepare LOCK: makes $venv hold the project and everything that ops/LOCK pins; quick where it does so already.
prepare() {
    lock=$root/ops/$1
    stamp=$venv/$1.stamp
    if installed; then return; fi
    find_python
    mkdir -p "$(dirname "$venv")"
    exec 9>"$venv.lock" # two starts at the same time install one after the other
    "$python" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'
    if ! installed; then install; fi
    exec 9>&-
}

# What an installation depends on. It is compared as it is: hashing programs differ from system to system.
inputs() {
    echo "$root $venv"
    cat "$lock" "$root/pyproject.toml"
}

installed() { [ -x "$venv/bin/python" ] && inputs | cmp -s - "$stamp"; }

install() {
    say "installing into $venv; this is done once, and again when $(basename "$lock") changes"
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then make_venv; fi
    pip_install --require-hashes --requirement "$lock"
    # The build system is among the locked packages, so nothing else is fetched.
    pip_install --no-deps --no-build-isolation --editable "$root"
    inputs >"$stamp"
}

pip_install() {
    "$venv/bin/python" -m pip --quiet --disable-pip-version-check --no-input install "$@" ||
        fail "the installation failed, see above; what is done so far stays, so just try again"
}

make_venv() {
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
        install_debian "$package" ||
            fail "$python lacks the modules venv and ensurepip; on Debian and Ubuntu: sudo apt-get install $package"
    fi
    "$python" -m venv --clear "$venv"
}

# Sets $python to the program itself, not to a link: a link that moves to another version would break $venv.
find_python() {
    if [ -n "${IMSERVER_PYTHON:-}" ]; then
        set -- "$IMSERVER_PYTHON"
    else
        set -- python3 python3.14 python3.13 python3.12 python3.11 python
    fi
    for candidate; do
        python=$("$candidate" -c 'import os, sys
if sys.version_info >= (3, 11): print(os.path.realpath(sys.executable))' 2>/dev/null) || continue
        if [ -n "$python" ]; then return; fi
    done
    found=$("$1" --version 2>&1) || found=none
    fail "Python 3.11 or newer is needed; found: $found.
    Debian 12, Ubuntu 24.04 or newer: sudo apt-get install python3 python3-venv
    macOS: brew install python
    elsewhere: https://www.python.org/downloads/
    IMSERVER_PYTHON=/path/to/python names one that is not on PATH."
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

# install_debian PACKAGE: fails where there is no apt-get, or where root's password would have to be asked for.
install_debian() {
    command -v apt-get >/dev/null && as_root true 2>/dev/null || return 1
    say "installing the Debian package $1"
    apt_get install "$1" && return
    apt_get update && apt_get install "$1" && return # there was no list of packages yet, or an old one
    printf '%s\n' "$apt_said" >&2
    return 1
}

# RUNLEVEL=1: the services in the packages are not started where System V init is asked.
apt_get() {
    apt_said=$(as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get -qq --yes --no-install-recommends -o DPkg::Lock::Timeout=300 "$@" 2>&1 </dev/null)
}
