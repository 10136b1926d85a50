#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Set-up of this machine and this folder. Run by 'make setup'; each step can be run alone, and a step with nothing to
# do takes some hundredths of a second. Files are compared by content, never by time. What apt, dpkg and pip say goes to
# setup.log in the project's folder. It may be interrupted at any moment: the next run goes on, or begins that step anew.
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
LOG=setup.log # not in .venv, which is emptied when it is made anew
PYTHON=${PYTHON:-python3}
INSTALL="apt-get install -y --no-install-recommends"
# No question can be answered: a configuration file that was changed here stays, of others the package's own is taken.
QUIET="-o DPkg::Lock::Timeout=120 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold"
PIP_MB=40 # what the packages of the lock are together
SUDO=$([[ $(id -u) == 0 ]] || echo "sudo ")

say() { printf '  %s\n' "$*" >&2; }

fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 2
}

# Ctrl-C reaches the program that runs as well, and the line below is said when that has ended: apt stops at once while
# it fetches, and in an installation at the end of the step that dpkg is in, a second or some; `repair` mends the rest.
stopped() {
    printf "setup: interrupted; 'make setup' goes on from here\n" >&2
    exit "$1"
}

# Begin a log; where nothing has to be done the last one stays. Say once what is to come.
begin() {
    [[ -z ${begun-} ]] || return 0
    { : >"$LOG"; } 2>/dev/null || fail "cannot write $LOG here: is the disk full, or the folder not yours?"
    begun=1
    say ".. set-up, needed once: all that apt and pip say goes to $LOG"
}

# Run a command with its output in the log; then `said` is what it has said.
said=
logged() {
    local code=0 start
    printf '\n== %s\n' "$*" >>"$LOG"
    start=$(wc -c <"$LOG")
    "$@" >>"$LOG" 2>&1 </dev/null || code=$?
    said=$(tail -c "+$((start + 1))" "$LOG" | tr -d '\0')
    return "$code"
}

# The same as root. The folder's lock is not for a program that a package may start.
as_root() { logged ${SUDO:+sudo} env DEBIAN_FRONTEND=noninteractive LC_ALL=C "$@" 9<&-; }

# The first of apt's own errors in what was said, else the last line.
apt_error() {
    local line last="it said nothing"
    while read -r line; do
        [[ $line != E:\ * ]] || { echo "${line#E: }"; return; }
        [[ -z $line ]] || last=$line
    done <<<"$said"
    echo "$last"
}

# How much apt will fetch for the packages $*, in words; nothing where apt cannot tell.
fetched() {
    local size bytes=0 number=0 found
    # shellcheck disable=SC2086  # lists of words
    found=$(LC_ALL=C $INSTALL --print-uris "$@" 2>/dev/null | sed -n "s/^'[^']*' [^ ]* \([0-9][0-9]*\) .*/\1/p") || return 0
    for size in $found; do
        bytes=$((bytes + size)) number=$((number + 1))
    done
    [[ $number != 0 ]] || { echo "nothing has to be fetched"; return; }
    echo "apt fetches $(((bytes + 999999) / 1000000)) MB in $number packages"
}

# Packages that an installation left half done when it was interrupted.
repair() {
    say ".. an installation was interrupted: dpkg --configure -a"
    fix=(--fix-broken) # a package that it needs may not have been unpacked
    as_root dpkg --force-confdef --force-confold --configure -a ||
        say "   dpkg could not mend it alone; apt goes on with it"
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
    local names name size update='' fix=() began=$SECONDS
    names=$(missing | paste -sd ' ')
    [[ -n $names ]] || return 0
    begin
    say ".. installing system packages: $names"
    if [[ -n $SUDO ]]; then
        command -v sudo >/dev/null || fail "not root and no sudo here; have an administrator run: $INSTALL $names"
        sudo -n true 2>/dev/null || [[ -t 0 ]] || fail "sudo wants a password and there is no terminal; run: $SUDO$INSTALL $names"
    fi
    [[ -z $(dpkg --audit 2>/dev/null) ]] || repair
    for name in $names; do
        available "$name" && continue
        say "   apt's package lists are fetched first"
        as_root apt-get -o APT::Update::Error-Mode=any update || update="its lists: $(apt_error)"
        names=$(missing | paste -sd ' ') # apt may know other alternatives now
        break
    done
    # shellcheck disable=SC2086  # a list of names
    size=$(fetched $names)
    [[ -z $size ]] || say "   $size"
    install_now || { [[ $said == *"dpkg --configure -a"* ]] && repair && install_now; } ||
        fail "apt-get failed: ${update:-$(apt_error)}; all it said is in $LOG; mend that and run: $SUDO$INSTALL $names"
    say "ok system packages ($((SECONDS - began)) s)"
}

install_now() {
    # shellcheck disable=SC2086  # lists of words
    as_root $INSTALL $QUIET "${fix[@]}" $names
}

# What an environment is made from: the locked packages, the interpreter, and the folder, for it cannot be moved.
venv_key() { { cat "$LOCK"; readlink -f .venv/bin/python || true; pwd -P; } | sha256sum; }
project_key() { { venv_key; cat setup.cfg pyproject.toml; } | sha256sum; }

# Is stamp $1 there with the text $2?
stamped() { [[ -r .venv/$1 && $(<".venv/$1") == "$2" ]]; }

# Why pip failed, from what it said. Where it could not reach an index it ends with 'No matching distribution found';
# what kept it from the index stands in the lines before, most exactly behind the last bracket, as in
# [Errno -3] Temporary failure in name resolution.
pip_error() {
    local line error='' cause=''
    while read -r line; do
        case $line in
            ERROR* | error* | OSError*) error=$line ;;
        esac
        if [[ $line =~ (Caused by |connection broken by .)([A-Za-z]+)\((.*) ]]; then
            cause=${BASH_REMATCH[3]}
            [[ $cause != *"] "* ]] || { cause=${cause##*] } && cause=${cause%%[\'\"]*}; }
            cause="${BASH_REMATCH[2]}: $cause"
        fi
    done <<<"$said"
    case $error in
        *"No matching distribution"* | *"Caused by"* | '') echo "${cause:-${error:-it said nothing}}" ;;
        *) echo "$error" ;;
    esac
}

pip_install() {
    logged .venv/bin/python -m pip install --disable-pip-version-check --progress-bar off "$@" ||
        fail "pip failed: $(pip_error); all it said is in $LOG; mend that, then run 'make setup' again"
}

# A stamp is written last: a step that was interrupted has none, and is done anew.
make_venv() {
    local began=$SECONDS
    [[ -r $LOCK ]] || fail "cannot read $LOCK: this is no whole clone"
    if ! stamped stamp-lock "$(venv_key)"; then
        command -v "$PYTHON" >/dev/null || fail "$PYTHON is not installed; run: $SUDO$INSTALL python3-venv"
        "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
            fail "Python 3.11 or newer is needed, $PYTHON is $("$PYTHON" -V 2>&1); name another: make setup PYTHON=/path/to/python3"
        "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null ||
            fail "$PYTHON has no venv module; run: $SUDO$INSTALL python3-venv, or name another: make setup PYTHON=/path/to/python3"
        begin
        say ".. installing $(grep -c '==' "$LOCK") Python packages into .venv: about $PIP_MB MB, about a minute"
        rm -f .venv/stamp-*
        logged "$PYTHON" -m venv --clear .venv || fail "$PYTHON cannot make .venv here: is the disk full, or the folder not yours? See $LOG"
        pip_install --require-hashes --no-deps -r "$LOCK"
        venv_key >.venv/stamp-lock
        say "ok Python packages ($((SECONDS - began)) s)"
    fi
    if ! stamped stamp-project "$(project_key)"; then
        begin
        rm -f .venv/stamp-project
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

trap 'stopped 130' INT
trap 'stopped 143' TERM
case ${1:-all} in
    all) alone; install_packages; make_venv ;;
    packages) alone; install_packages ;;
    python) alone; make_venv ;;
    missing) missing ;;
    command) install_command ;;
    *) fail "unknown step '$1': give packages, python, missing, command or nothing" ;;
esac
