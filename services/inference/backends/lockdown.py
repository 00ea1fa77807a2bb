"""Limits memory, open files and system calls of a child process, before it opens a stranger's file.

The limits and the filter hold with and without the sandbox around the process, and cannot be
lifted again.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import signal

from cxreval.child_limits import limit_this_process
from cxreval.system_calls import NUMBERS, SystemCallFilter, Where

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
        number = NUMBERS[platform.machine()]
        arguments = (number, _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC)
        if libc.syscall(*arguments, ctypes.byref(filter_)) != 0:
            raise OSError(ctypes.get_errno(), "the kernel refuses the filter of system calls")


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
    filter_ = SystemCallFilter()
    for name in _REFUSED:
        filter_.refuse(name)
    for number in _REFUSED_NUMBERS.values():
        filter_.refuse(number)
    # glibc falls back to `clone`, whose flags a filter can read.
    filter_.refuse("clone3", error=errno.ENOSYS)
    filter_.refuse("clone", Where(0, 0, mask=_CLONE_THREAD))
    filter_.refuse("prlimit64", Where(2, 0, different=True))  # 0 only reads the limits
    filter_.refuse("prctl", Where(0, _PR_SET_PDEATHSIG))
    filter_.refuse("tgkill", Where(0, pid, different=True))
    # The owner of a file gets signals when it can be read, which may be any signal.
    for command in (fcntl.F_SETOWN, _F_SETOWN_EX):
        filter_.refuse("fcntl", Where(1, command, mask=0xFFFFFFFF))
    for request in (_TIOCSTI, _TIOCLINUX, _FIOSETOWN, _SIOCSPGRP):
        filter_.refuse("ioctl", Where(1, request, mask=0xFFFFFFFF))
    filter_.refuse("openat2", error=errno.ENOSYS)
    # The driver of a GPU opens its devices for writing.
    written = (os.O_CREAT, os.O_TRUNC) if gpu else (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC)
    for argument, name in ((1, "open"), (2, "openat")):
        for flags in written:
            filter_.refuse(name, Where(argument, flags, mask=flags))
    return filter_.program()
