# SPDX-License-Identifier: Apache-2.0
"""What an imaging worker may still do once it decodes: compute, and write into memory files.

Runs in the worker process only, after everything it needs has been imported. Limits of memory, CPU
and descriptors always hold; namespaces and Landlock are used where the kernel and the service unit
allow them, and what is in force is told to the pool.
"""

import ctypes
import os
import resource
import signal
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import scrigno

MAX_DESCRIPTORS: Final = 32

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
_CLONE_NEWNET: Final = 0x40000000
_CLONE_NEWIPC: Final = 0x08000000
_CLONE_NEWUSER: Final = 0x10000000
_CAPABILITY_VERSION_3: Final = 0x20080522

# landlock(7); the numbers are the same on every architecture
_LANDLOCK_CREATE: Final = 444
_LANDLOCK_ADD_RULE: Final = 445
_LANDLOCK_RESTRICT: Final = 446
_READ: Final = 1 << 2 | 1 << 3  # files, directories
# rights of the filesystem by ABI version: 1 knows 13, 2 renames across, 3 truncates, 5 ioctl
_FILE_RIGHTS: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_FILE_RIGHTS_NOW: Final = (1 << 16) - 1
_TCP_RIGHTS: Final = 3  # bind, connect; since ABI 4

_libc: Final = ctypes.CDLL(None, use_errno=True)


def confine(*, memory_limit_bytes: int, output_limit_bytes: int) -> list[str]:
    """Give up everything that decoding does not need; return what is in force, by name."""
    _limits(memory_limit_bytes, output_limit_bytes)
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    done = ["limits"]
    if _no_network():
        done.append("no-network")
    if _no_files(_libraries()):
        done.append("no-files")
    if _no_capabilities():
        done.append("no-capabilities")
    # a change of credentials may have cleared what enter() asked for (prctl(2))
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    return done


def allow_cpu(seconds: int) -> None:
    """Let the process use `seconds` of CPU from now on before SIGXCPU ends it."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(usage.ru_utime + usage.ru_stime) + seconds + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _limits(memory_limit_bytes: int, output_limit_bytes: int) -> None:
    for kind, limit in (
        (resource.RLIMIT_AS, memory_limit_bytes),
        (resource.RLIMIT_FSIZE, output_limit_bytes),
        (resource.RLIMIT_NOFILE, MAX_DESCRIPTORS),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(kind, (limit, limit))


def _no_network() -> bool:
    """Enter empty network and IPC namespaces, through a user namespace when unprivileged."""
    flags = _CLONE_NEWNET | _CLONE_NEWIPC
    return bool(_libc.unshare(flags) == 0 or _libc.unshare(flags | _CLONE_NEWUSER) == 0)


def _libraries() -> list[Path]:
    """Return where Python may still load code and codecs from."""
    package = Path(scrigno.__file__).parent.parent
    found = [Path(sys.prefix), Path(sys.base_prefix), package]
    found += [Path("/usr/lib"), Path("/lib"), Path("/lib64"), Path("/usr/local/lib")]
    return [path for path in found if path.is_dir()]


def _no_files(readable: Iterable[Path]) -> bool:
    """Deny every path by Landlock but reading `readable`; False when the kernel has none."""
    version = _libc.syscall(_LANDLOCK_CREATE, None, 0, 1)
    if version < 1:
        return False
    rights = _FILE_RIGHTS.get(version, _FILE_RIGHTS_NOW)
    attributes = struct.pack("=QQ", rights, _TCP_RIGHTS)[: 16 if version >= 4 else 8]
    ruleset = _libc.syscall(_LANDLOCK_CREATE, attributes, len(attributes), 0)
    if ruleset < 0:
        return False
    try:
        for path in readable:
            parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
            rule = struct.pack("=Qi", _READ, parent)
            _libc.syscall(_LANDLOCK_ADD_RULE, ruleset, 1, rule, 0)
            os.close(parent)
        return bool(_libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


def _no_capabilities() -> bool:
    """Drop every capability (matters in trial runs as root only)."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    return bool(_libc.capset(header, bytes(24)) == 0)
