"""Filters of system calls, which a process takes on before it opens or runs a stranger's file.

They are made with libseccomp. A call through another interface of the processor (32-bit, x32)
ends the process.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import platform
import tempfile
from functools import lru_cache
from typing import Any, NamedTuple

from cxreval.errors import SandboxUnavailable

NUMBERS = {"x86_64": 317, "aarch64": 277}
"""Number of the system call `seccomp`, by processor."""

_32_BITS = 0xFFFFFFFF
_NEW_NAMESPACES = (
    0x00000080, 0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_AF_UNIX, _MOST_FAMILIES = 1, 64
_SYNCHRONISE = ("sync", "syncfs")  # a loop of these slows the disk of the whole machine

# No namespace contains these completely, or no script that predicts needs them.
_REFUSED = (  # noqa: SIM905 -- a list would have a line for each name
    "acct add_key adjtimex bpf chroot clock_adjtime clock_settime delete_module fanotify_init "
    "finit_module fsconfig fsmount fsopen fspick init_module io_uring_enter io_uring_register "
    "io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load keyctl landlock_add_rule "
    "landlock_create_ruleset landlock_restrict_self lookup_dcookie mbind memfd_create "
    "memfd_secret migrate_pages modify_ldt mount mount_setattr move_mount move_pages mq_open "
    "msgctl msgget msgrcv msgsnd name_to_handle_at open_by_handle_at open_tree perf_event_open "
    "personality pidfd_getfd pivot_root process_madvise process_vm_readv process_vm_writev "
    "ptrace quotactl quotactl_fd reboot request_key semctl semget semop setdomainname sethostname "
    "setns settimeofday shmat shmctl shmget stime swapoff swapon syslog umount umount2 unshare "
    "uselib userfaultfd ustat vhangup"
).split()
# Newer than the names that libseccomp may know; the numbers are the same on all processors:
# statmount, listmount, lsm_get_self_attr, lsm_set_self_attr, lsm_list_modules, open_tree_attr.
_REFUSED_NUMBERS = (457, 458, 459, 460, 461, 467)


class Where(NamedTuple):
    """A condition of a rule: an argument of the call, and what it must be."""

    argument: int
    value: int
    mask: int | None = None
    """The bits that are compared; None for all 64."""
    different: bool = False
    """Whether the argument must differ from the value."""


class SystemCallFilter:
    """A filter that allows what no rule refuses.

    Raises `OSError` on a machine without libseccomp, or with a processor that it does not know.
    """

    def __init__(self) -> None:
        self._library = _library()
        self._filter = self._library.SyscallFilter(self._library.ALLOW)

    def refuse(self, call: str | int, *conditions: Where, error: int = errno.EPERM) -> None:
        """Makes a system call fail with an error if all conditions hold. A call that this
        processor or this libseccomp does not know is left out."""
        arguments = [self._argument(condition) for condition in conditions]
        with contextlib.suppress(RuntimeError, ValueError, OSError):
            self._filter.add_rule(self._library.ERRNO(error), call, *arguments)

    def program(self) -> bytes:
        """Returns the filter as a BPF program."""
        with tempfile.TemporaryFile() as file:
            self._filter.export_bpf(file)
            file.seek(0)
            return file.read()

    def _argument(self, where: Where) -> Any:
        library = self._library
        if where.mask is not None:
            return library.Arg(where.argument, library.MASKED_EQ, where.mask, where.value)
        comparison = library.NE if where.different else library.EQ
        return library.Arg(where.argument, comparison, where.value)


@lru_cache(1)
def program_filter() -> bytes:
    """Returns the filter of a stranger's program: it may start processes, write files and use
    sockets of its own, and is refused what reaches the kernel's other parts.

    Raises:
        SandboxUnavailable: this machine has no libseccomp.
    """
    try:
        filter_ = SystemCallFilter()
    except OSError as error:
        expected = "pyseccomp and libseccomp"
        message = f"no sandbox: {error}; expected {expected} (pip install pyseccomp)"
        raise SandboxUnavailable(message, expected=expected, found=str(error)) from None
    for name in (*_REFUSED, *_SYNCHRONISE):
        filter_.refuse(name)
    for number in _REFUSED_NUMBERS:
        filter_.refuse(number)
    # glibc falls back to `clone`, whose flags a filter can read.
    filter_.refuse("clone3", error=errno.ENOSYS)
    for flag in _NEW_NAMESPACES:
        filter_.refuse("clone", Where(0, flag, mask=flag))
    # The kernel ignores the upper half of these arguments, so a comparison of all bits is no rule.
    for family in range(_MOST_FAMILIES):
        if family != _AF_UNIX:
            where = Where(0, family, mask=_32_BITS)
            filter_.refuse("socket", where, error=errno.EAFNOSUPPORT)
    # The first process of the sandbox may have the same user.
    filter_.refuse("prlimit64", Where(0, 0, different=True))
    for request in (_TIOCSTI, _TIOCLINUX):
        filter_.refuse("ioctl", Where(1, request, mask=_32_BITS))
    return filter_.program()


@lru_cache(1)
def _library() -> Any:
    """Returns pyseccomp. Raises `OSError` on a machine where it does not work."""
    if platform.machine() not in NUMBERS:
        raise OSError(f"no filter of system calls for {platform.machine()}")
    try:
        return importlib.import_module("pyseccomp")
    except (ImportError, RuntimeError) as error:
        raise OSError(f"no libseccomp: {error}") from None
