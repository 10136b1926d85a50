#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Set-up of this machine and this folder. Run by 'make setup'; each step can be run alone, and a step with nothing to
# do takes some hundredths of a second. Files are compared by content, never by time.
#
#   tooling/setup.sh            packages, then python
#   tooling/setup.sh packages   system packages of tooling/packages.txt
#   tooling/setup.sh python     the virtual environment .venv, from tooling/requirements.lock
#   tooling/setup.sh missing    print the system packages that are missing, one a line; change nothing
#   tooling/setup.sh command    print the command that installs them, or nothing
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

LIST=tooling/packages.txt
LOCK=tooling/requirements.lock
LOG=.venv/setup.log
PYTHON=${PYTHON:-python3}
INSTALL="apt-get install -y --no-install-recommends"
SUDO=$([[ $(id -u) == 0 ]] || echo "sudo ")

say() { printf '  %s\n' "$*" >&2; }

fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 2
}

# The packages of the list without comments: one line each, alternatives separated by blanks.
wanted() { sed -e 's/#.*//' -e 's/|/ /g' -e 's/ *$//' "$LIST" | grep .; }

# Does apt know a version of package $1 that it could install? All that apt-cache prints is read: a reader that ends
# before its writer kills the writer by SIGPIPE, and under pipefail that fails the pipeline.
available() {
    local policy
    policy=$(LC_ALL=C apt-cache policy "$1" 2>/dev/null) || return 1
    [[ $policy =~ Candidate:\ [^\(] ]]
}

# One name for each missing package: of its alternatives the first that apt can install, else simply the first.
missing() {
    command -v dpkg-query >/dev/null || fail "this is no Debian or Ubuntu (dpkg-query is not there): install what $LIST names by hand"
    local installed line name choice
    # shellcheck disable=SC2046  # package names hold no blanks
    installed=" $(dpkg-query -W -f '${db:Status-Status}=${Package} ' $(wanted) 2>/dev/null || true)"
    while read -r line; do
        choice=
        for name in $line; do
            [[ $installed != *" installed=$name "* ]] || continue 2
        done
        for name in $line; do
            if [[ $line != *' '* ]] || available "$name"; then
                choice=$name
                break
            fi
        done
        echo "${choice:-${line%% *}}"
    done < <(wanted)
}

install_command() {
    local names
    names=$(missing | paste -sd ' ')
    [[ -z $names ]] || echo "$SUDO$INSTALL $names"
}

install_packages() {
    local names name root=()
    names=$(missing | paste -sd ' ')
    [[ -n $names ]] || return 0
    say ".. installing system packages: $names"
    if [[ -n $SUDO ]]; then
        command -v sudo >/dev/null || fail "not root and no sudo here; have an administrator run: $INSTALL $names"
        sudo -n true 2>/dev/null || [[ -t 0 ]] || fail "sudo wants a password and there is no terminal; run: $SUDO$INSTALL $names"
        root=(sudo)
    fi
    for name in $names; do
        available "$name" && continue
        "${root[@]}" apt-get update || fail "apt-get update failed; mend the machine's apt sources, then run 'make setup' again"
        names=$(missing | paste -sd ' ') # apt may know other alternatives now
        break
    done
    # shellcheck disable=SC2086  # a list of names
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive $INSTALL -o DPkg::Lock::Timeout=120 $names ||
        fail "apt-get failed, see above; mend that and run: $SUDO$INSTALL $names"
    say "ok system packages"
}

# What an environment is made from: the locked packages, the interpreter, and the folder, for it cannot be moved.
venv_key() { { cat "$LOCK"; readlink -f .venv/bin/python || true; pwd -P; } | sha256sum; }
project_key() { { venv_key; cat setup.cfg pyproject.toml; } | sha256sum; }

# Is stamp $1 there with the text $2?
stamped() { [[ -r .venv/$1 && $(<".venv/$1") == "$2" ]]; }

# pip with its output in the log, the names it collects shown; one line where it fails.
pip_install() {
    local code=0
    .venv/bin/python -m pip install --disable-pip-version-check --progress-bar off "$@" 2>&1 |
        tee -a "$LOG" | sed -un 's/^Collecting \([^ ]*\).*/     \1/p' >&2 || code=$?
    [[ $code == 0 ]] || fail "pip failed: $(grep -E '^ *(ERROR|error|OSError)' "$LOG" | tail -n 1); all it said is in $LOG; mend that, then run 'make setup' again"
}

make_venv() {
    [[ -r $LOCK ]] || fail "cannot read $LOCK: this is no whole clone"
    if ! stamped stamp-lock "$(venv_key)"; then
        command -v "$PYTHON" >/dev/null || fail "$PYTHON is not installed; run: $SUDO$INSTALL python3-venv"
        "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
            fail "Python 3.11 or newer is needed, $PYTHON is $("$PYTHON" -V 2>&1); name another: make setup PYTHON=/path/to/python3"
        "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null ||
            fail "$PYTHON has no venv module; run: $SUDO$INSTALL python3-venv, or name another: make setup PYTHON=/path/to/python3"
        say ".. Python packages into .venv (about a minute)"
        "$PYTHON" -m venv --clear .venv >&2 || fail "$PYTHON cannot make .venv here: is the disk full, or the folder not yours?"
        pip_install --require-hashes --no-deps -r "$LOCK"
        venv_key >.venv/stamp-lock
        say "ok Python packages"
    fi
    if ! stamped stamp-project "$(project_key)"; then
        pip_install --no-build-isolation --no-deps -e .
        project_key >.venv/stamp-project
        say "ok cpuidlab in .venv"
    fi
}

# Two set-ups at once in one folder would spoil each other's work: the folder itself is the lock.
alone() {
    exec 9<.
    flock -n 9 || { say ".. waiting for another set-up of this folder"; flock 9; }
}

case ${1:-all} in
    all) alone; install_packages; make_venv ;;
    packages) alone; install_packages ;;
    python) alone; make_venv ;;
    missing) missing ;;
    command) install_command ;;
    *) fail "unknown step '$1': give packages, python, missing, command or nothing" ;;
esac
