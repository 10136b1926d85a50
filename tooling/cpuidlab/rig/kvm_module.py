"""KVM's vendor module on a real machine, loaded anew in the other paging mode for one test, and put back."""

import re
import shlex
from collections.abc import Mapping

from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError, UnsupportedError
from cpuidlab.rig.machine_facts import PAGING_PARAMETER
from cpuidlab.rig.real_host import RealHost
from cpuidlab.rig.settings import Setting

_SIMPLE = re.compile(r"[YN]|-?\d+")  # values that the kernel takes as it prints them; others it may not
_PARAMETERS = 'cd /sys/module/{module}/parameters && for name in *; do echo "$name=$(cat "$name" 2>/dev/null)"; done'
# Who has /dev/kvm, a VM or a vCPU open: "/proc/PID/fd:" before the files of each process.
_USERS = "ls -l /proc/[0-9]*/fd 2>/dev/null | grep -E '^/proc/|-> (/dev/kvm|anon_inode:.?kvm-)'"
# A process that is ending may still use the module. Parameters that the machine does not set by itself are given in a
# second try alone: to give one that is "dangerous" would taint the kernel. udev sets the mode of a new /dev/kvm, but
# not every machine has udev.
_LOAD = """PATH=$PATH:/usr/sbin:/sbin
load() {{
  tries=0
  while [ -d /sys/module/{module} ] && ! rmmod {module}; do
    tries=$((tries + 1)); [ $tries -lt 100 ] || exit 1; sleep 0.2
  done
  modprobe {module} "$@" || exit 1
}}
load {chosen}
set --
for word in {others}; do
  [ "$(cat /sys/module/{module}/parameters/${{word%%=*}})" = "${{word#*=}}" ] || set -- "$@" "$word"
done
[ $# = 0 ] || load {chosen} "$@"
if command -v udevadm >/dev/null; then udevadm settle --timeout=10; fi
chmod {mode} /dev/kvm && chown {owner} /dev/kvm"""


def reload(host: RealHost, paging: str, deadline: Deadline) -> None:
    """Load the vendor module anew so that the machine runs `paging`; the old parameters are put back at the end.

    Raises UnsupportedError with the reason where that cannot be done, LabError where it fails.
    """
    module, parameter = host.facts.module, PAGING_PARAMETER[host.facts.module]
    _check(host, module, deadline)
    look = _PARAMETERS.format(module=module)
    old = host.run(look, deadline).strip()
    known = dict(line.partition("=")[::2] for line in old.splitlines())
    wanted = "0" if paging == "shadow" else "1"
    node = re.fullmatch(r"([0-7]+) (\d+:\d+)", host.run("stat -c '%a %u:%g' /dev/kvm", deadline).strip())
    if node is None or parameter not in known:
        raise LabError(f"{host.name}: the machine does not tell how {module} is loaded", old)
    others = {name: value for name, value in known.items() if name != parameter}
    put_back = host.as_root(_load(module, f"{parameter}={known[parameter]}", others, *node.groups()))
    told = f"{module}: {parameter} was {known[parameter]}, a test loaded it with {parameter}={wanted}"
    told += ", and all its parameters are as before again"
    host.settings.will_change(Setting(module, old, look, put_back, told), deadline)
    host.run(host.as_root(_load(module, f"{parameter}={wanted}", others, *node.groups())), deadline)
    host.ask_again(deadline)
    if host.facts.paging != paging:
        raise UnsupportedError(f"{host.name}: {module} does not take {parameter}={wanted}")


def _check(host: RealHost, module: str, deadline: Deadline) -> None:
    """Raise UnsupportedError where the module cannot be unloaded now."""
    if not host.facts.root:
        why = f"only root may load {module} anew, and {host.facts.user} has no sudo without a password"
        raise UnsupportedError(f"{host.name}: {why}")
    count = host.run(f"cat /sys/module/{module}/refcnt 2>/dev/null", deadline, check=False).strip()
    if not count:
        raise UnsupportedError(f"{host.name}: {module} is built into the kernel, so it cannot be loaded anew")
    user = _user(host.run(host.as_root(_USERS), deadline, check=False))
    if user:
        name = host.run(f"cat /proc/{user}/comm", deadline, check=False).strip()
        raise UnsupportedError(f"{host.name}: {name} (process {user}) uses KVM there, so {module} is not loaded anew")
    if count != "0":
        raise UnsupportedError(f"{host.name}: {module} is in use {count} times, so it is not loaded anew")


def _user(listing: str) -> str:
    """Return the first process that has KVM open, by what `_USERS` prints; empty where there is none."""
    process = ""
    for line in listing.splitlines():
        begun = re.fullmatch(r"/proc/(\d+)/fd:", line)
        if begun is None:
            return process
        process = begun[1]
    return ""


def _load(module: str, chosen: str, others: Mapping[str, str], mode: str, owner: str) -> str:
    """Return the script that loads the module with the parameter `chosen` and the values of all `others`."""
    words = shlex.join(f"{name}={value}" for name, value in others.items() if _SIMPLE.fullmatch(value))
    return _LOAD.format(module=module, chosen=shlex.quote(chosen), others=words, mode=mode, owner=owner)
