"""Runs a piece of Python in a forked child, stopped at each of its system calls.

The kernel itself tells of each call (ptrace), so none is missed, whatever library makes it. At the
stop before a call nothing of it has been done: a child that is killed there leaves exactly what the
calls before it have made.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

_TRACEME, _CONT, _SYSCALL, _SETOPTIONS = 0, 7, 24, 0x4200
_GETREGS, _SETREGS, _INFO = 12, 13, 0x420E
_SYSGOOD, _TRACESECCOMP, _EXITKILL = 1, 0x80, 0x100000
_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_TELL, _LET = 0x7FF00000, 0x7FFF0000
_EXIT = 2
_STOP, _BEFORE = signal.SIGTRAP | 0x80, signal.SIGTRAP | 7 << 8
HERE = platform.machine() == "x86_64"
"""Calls' numbers and registers are those of this machine alone."""

NAMES: Mapping[int, str] = {
    0: "read", 1: "write", 18: "pwrite64", 20: "writev", 40: "sendfile", 76: "truncate",
    77: "ftruncate", 2: "open", 257: "openat", 85: "creat", 82: "rename", 264: "renameat",
    316: "renameat2", 83: "mkdir", 258: "mkdirat", 84: "rmdir", 86: "link", 265: "linkat",
    87: "unlink", 263: "unlinkat", 88: "symlink", 266: "symlinkat", 90: "chmod", 91: "fchmod",
    268: "fchmodat", 452: "fchmodat2", 92: "chown", 93: "fchown", 94: "lchown", 260: "fchownat",
    74: "fsync", 75: "fdatasync", 306: "syncfs", 162: "sync", 277: "sync_file_range",
    285: "fallocate", 326: "copy_file_range", 296: "pwritev", 328: "pwritev2", 133: "mknod",
    259: "mknodat", 73: "flock", 165: "mount", 425: "io_uring_setup", 3: "close",
    437: "openat2", 275: "splice", 188: "setxattr", 189: "lsetxattr", 190: "fsetxattr",
}  # fmt: skip
"""All calls that can change a file, its name or its being kept, and some that say which one."""
CHANGING = NAMES.keys() - {0, 3, 73, 74, 75, 306, 162, 277}

_libc = ctypes.CDLL(None, use_errno=True)
_ptrace = _libc.ptrace
_ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_ptrace.restype = ctypes.c_long


class _Info(ctypes.Structure):
    _fields_ = (
        ("op", ctypes.c_uint8),
        ("pad", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("ip", ctypes.c_uint64),
        ("sp", ctypes.c_uint64),
        ("first", ctypes.c_uint64),
        ("args", ctypes.c_uint64 * 6),
        ("more", ctypes.c_uint64 * 2),
    )


_REGISTERS = """r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags
rsp ss fs_base gs_base ds es fs gs"""


class Registers(ctypes.Structure):
    """The child's registers, by the names that the kernel's user_regs_struct has."""

    _fields_ = tuple((name, ctypes.c_ulonglong) for name in _REGISTERS.split())
    rax: int
    rdx: int
    orig_rax: int


@dataclass(frozen=True, slots=True)
class Call:
    """A system call: which one in the run, its number, its arguments; `result` once it is done."""

    index: int
    number: int
    args: tuple[int, ...]
    result: int | None = None


class Child:
    """A forked child that runs `body` and ends; stopped before its first call. `of` are the calls
    that it is stopped before, and that are counted; without any, it is each one."""

    def __init__(self, body: Callable[[], None], of: Collection[int] = ()) -> None:
        self.code: int | None = None
        self.index = -1
        self.pid = os.fork()
        if self.pid == 0:
            _run(body, _filter(of))
        _, status = os.waitpid(self.pid, 0)
        assert os.WIFSTOPPED(status), status
        self._ask(_SETOPTIONS, _SYSGOOD | _TRACESECCOMP | _EXITKILL)

    def next(self) -> bool:
        """Go on to just before the next call; False once the child ended."""
        self.index += 1
        return self._go(_CONT, _BEFORE)

    def done(self) -> bool:
        """Have the call carried out, and stop just after it; False where it ended the child."""
        return self._go(_SYSCALL, _STOP)

    def step(self, stops: int) -> bool:
        """From just after a call go on by half calls, whichever they are: to just before the next
        one, to just after it, and so on; False once it ended."""
        return all(self._go(_SYSCALL, _STOP) for _ in range(stops))

    def _go(self, how: int, stop: int) -> bool:
        self._ask(how, 0)
        _, status = os.waitpid(self.pid, 0)
        if os.WIFSTOPPED(status):
            assert status >> 8 == stop, f"stopped by {status >> 8}"
            return True
        self.code = os.waitstatus_to_exitcode(status)
        return False

    def call(self) -> Call:
        """The call that it is stopped before or after."""
        info = _Info()
        size = ctypes.sizeof(info)
        assert _ptrace(_INFO, self.pid, size, ctypes.byref(info)) > 0
        if info.op != _EXIT:
            return Call(self.index, info.first, tuple(info.args))
        return Call(self.index, -1, (), ctypes.c_int64(info.first).value)

    def registers(self) -> Registers:
        found = Registers()
        self._ask(_GETREGS, ctypes.addressof(found))
        return found

    def change(self, registers: Registers) -> None:
        """Have it go on with other registers: a call with another number, argument or result."""
        self._ask(_SETREGS, ctypes.addressof(registers))

    def memory(self, address: int, length: int) -> bytes:
        """Bytes of the child."""
        with open(f"/proc/{self.pid}/mem", "rb", 0) as stream:
            stream.seek(address)
            return stream.read(length)

    def text(self, address: int) -> str:
        """A path of the child, which ends with a zero byte."""
        data = b""
        while b"\0" not in data:
            # Not over the page's end: the next one may not be there.
            data += self.memory(address + len(data), 4096 - (address + len(data)) % 4096)
        return os.fsdecode(data.partition(b"\0")[0])

    def kill(self) -> None:
        """End it as SIGKILL does."""
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            _, status = os.waitpid(self.pid, 0)
            self.code = os.waitstatus_to_exitcode(status)

    def finish(self) -> int:
        """Let it run to its end; its exit code."""
        while self.next():
            pass
        assert self.code is not None
        return self.code

    def _ask(self, request: int, data: int) -> None:
        if _ptrace(request, self.pid, None, data) == -1:
            raise OSError(ctypes.get_errno(), "ptrace")


def _filter(of: Collection[int]) -> bytes:
    """The kernel's program (seccomp's) that tells the tracer of some calls."""
    known = sorted(of)
    words = [(_LOAD, 0, 0)] if known else []
    # Each jumps over those behind it, and over the way past them.
    words += [(_EQUAL, len(known) - place, number) for place, number in enumerate(known)]
    words += [(_RETURN, 0, each) for each in ((_LET, _TELL) if known else (_TELL,))]
    return b"".join(
        code.to_bytes(2, "little") + bytes((jump, 0)) + value.to_bytes(4, "little")
        for code, jump, value in words
    )


def _run(body: Callable[[], None], program: bytes) -> None:
    code = 99
    try:
        _ptrace(_TRACEME, 0, None, None)
        os.kill(os.getpid(), signal.SIGSTOP)
        kept = ctypes.create_string_buffer(program, len(program))
        held = (ctypes.c_uint64 * 2)(len(program) // 8, ctypes.addressof(kept))
        _libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        assert _libc.prctl(_SET_SECCOMP, _FILTER, ctypes.byref(held), 0, 0) == 0
        body()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def killed(body: Callable[[], None], changes: int, calls: int) -> bool:
    """Run `body` until it has made so many calls that change a file, and so many others since, and
    kill it before its next one; False where it ended before."""
    child = Child(body, CHANGING if changes else ())
    try:
        while child.next():
            if changes and child.index == changes - 1:
                return child.done() and child.step(2 * calls + 1)
            if not changes and child.index == calls:
                return True
        return False
    finally:
        child.kill()
