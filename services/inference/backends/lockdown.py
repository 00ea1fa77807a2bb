"""Limits memory, open files and system calls of a child process, before it opens a stranger's file.

The limits and the filter hold with and without the sandbox around the process, and cannot be
lifted again.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import importlib
import os
import platform
import signal
import tempfile
from functools import lru_cache
from typing import Any

from cxreval.child_limits import limit_this_process

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC = 1, 1
_INSTRUCTION_BYTES = 8  # of a BPF program
_OPEN_FILES = 256

# A process inside a namespace without network, devices and other processes can still try the
# kernel itself, so what no model needs is refused.
_REFUSED = (  # noqa: SIM905 -- a list would have a line for each name
    "acct add_key adjtimex bpf chmod chown chroot clock_adjtime clock_settime connect creat "
    "delete_module execve execveat fanotify_init fchmod fchmodat fchown fchownat finit_module "
    "fork fremovexattr fsconfig fsetxattr fsmount fsopen fspick futimesat init_module "
    "io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp kexec_file_load "
    "kexec_load keyctl kill lchown link linkat lookup_dcookie lremovexattr lsetxattr "
    "memfd_secret mkdir mkdirat mknod mknodat modify_ldt mount mount_setattr move_mount mq_open "
    "msgctl msgget msgsnd name_to_handle_at open_by_handle_at open_tree perf_event_open "
    "personality pidfd_getfd pidfd_open pidfd_send_signal pivot_root process_madvise "
    "process_vm_readv process_vm_writev ptrace quotactl quotactl_fd reboot removexattr rename "
    "renameat renameat2 request_key rmdir rt_sigqueueinfo rt_tgsigqueueinfo semctl semget "
    "setdomainname setfsgid setfsuid setgid setgroups sethostname setns setpgid setpriority "
    "setregid setresgid setresuid setreuid setrlimit setsid settimeofday setuid setxattr shmat "
    "shmctl shmget socket socketpair swapoff swapon symlink symlinkat syslog tkill truncate "
    "umount2 unlink unlinkat unshare uselib userfaultfd ustat utime utimensat utimes vfork "
    "vhangup"
).split()
# Newer than the names that libseccomp may know; the numbers are the same on all processors.
_REFUSED_NUMBERS = {
    "fchmodat2": 452,
    "setxattrat": 463,
    "removexattrat": 466,
    "open_tree_attr": 467,
}
_CLONE_THREAD = 0x00010000
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_FIOSETOWN, _SIOCSPGRP = 0x8901, 0x8902
_F_SETOWN_EX = 15


def hide_from_children() -> None:
    """Prevents other processes of this user, such as model hosts without a sandbox, from reading
    the memory and the environment of this process, which contain its API key."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0)


def lock_down(memory_bytes: int, program: bytes, *, gpu: bool) -> None:
    """Limits this process to reading files, computing, and answering on its open descriptors.

    Args:
        memory_bytes: how much memory it may take beyond what it has now.
        program: the filter of system calls that `system_call_filter` returned; empty for none.
        gpu: whether it will use a GPU, whose driver reserves far more address space than memory;
            then only the memory that it can write to is limited.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    limit_this_process(memory_bytes=memory_bytes, open_files=_OPEN_FILES, address_space=not gpu)
    # Nor may another child of this user read its memory or descriptors.
    libc.prctl(_PR_SET_DUMPABLE, 0)
    if program:
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        code = ctypes.create_string_buffer(program)
        filter_ = _SockFprog(len(program) // _INSTRUCTION_BYTES, ctypes.addressof(code))
        number = _SECCOMP_NUMBERS[platform.machine()]
        arguments = (number, _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC)
        if libc.syscall(*arguments, ctypes.byref(filter_)) != 0:
            raise OSError(ctypes.get_errno(), "the kernel refuses the filter of system calls")


_SECCOMP_NUMBERS = {"x86_64": 317, "aarch64": 277}
"""Number of the system call `seccomp`, by processor."""


class _SockFprog(ctypes.Structure):
    """`struct sock_fprog` of <linux/filter.h>."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def system_call_filter(pid: int, *, gpu: bool) -> bytes:
    """Returns a BPF program that refuses the system calls that no model needs.

    Args:
        pid: the process, as it numbers itself; it may signal only itself, which `abort` does.
        gpu: whether it will use a GPU, whose driver opens devices for writing.

    Raises:
        OSError: this machine has no libseccomp, or it is unknown for this processor.
    """
    seccomp = _library()
    program = seccomp.SyscallFilter(seccomp.ALLOW)
    refuse = seccomp.ERRNO(errno.EPERM)
    for name in _REFUSED:
        _add(program, refuse, name)
    for number in _REFUSED_NUMBERS.values():
        _add(program, refuse, number)
    # glibc falls back to `clone`, whose flags a filter can read.
    _add(program, seccomp.ERRNO(errno.ENOSYS), "clone3")
    _add(program, refuse, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, _CLONE_THREAD, 0))
    _add(program, refuse, "prlimit64", seccomp.Arg(2, seccomp.NE, 0))  # 0 only reads the limits
    _add(program, refuse, "prctl", seccomp.Arg(0, seccomp.EQ, _PR_SET_PDEATHSIG))
    _add(program, refuse, "tgkill", seccomp.Arg(0, seccomp.NE, pid))
    # The owner of a file gets signals when it can be read, which may be any signal.
    for command in (fcntl.F_SETOWN, _F_SETOWN_EX):
        _add(program, refuse, "fcntl", seccomp.Arg(1, seccomp.MASKED_EQ, 0xFFFFFFFF, command))
    for request in (_TIOCSTI, _TIOCLINUX, _FIOSETOWN, _SIOCSPGRP):
        _add(program, refuse, "ioctl", seccomp.Arg(1, seccomp.MASKED_EQ, 0xFFFFFFFF, request))
    _add(program, seccomp.ERRNO(errno.ENOSYS), "openat2")
    # The driver of a GPU opens its devices for writing.
    written = (os.O_CREAT, os.O_TRUNC) if gpu else (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC)
    for argument, name in ((1, "open"), (2, "openat")):
        for flags in written:
            rule = seccomp.Arg(argument, seccomp.MASKED_EQ, flags, flags)
            _add(program, refuse, name, rule)
    with tempfile.TemporaryFile() as file:
        program.export_bpf(file)
        file.seek(0)
        return file.read()


@lru_cache(1)
def _library() -> Any:
    """Returns pyseccomp. Raises `OSError` on a machine where it does not work."""
    if platform.machine() not in _SECCOMP_NUMBERS:
        raise OSError(f"no filter of system calls for {platform.machine()}")
    try:
        return importlib.import_module("pyseccomp")
    except (ImportError, RuntimeError) as error:
        raise OSError(f"no libseccomp: {error}") from None


def _add(program: Any, action: int, call: str | int, *arguments: Any) -> None:
    """Adds a rule, unless this processor or library does not know the system call."""
    with contextlib.suppress(RuntimeError, ValueError, OSError):
        program.add_rule(action, call, *arguments)
