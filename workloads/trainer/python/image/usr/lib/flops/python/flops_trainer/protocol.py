"""Frames of the trainer protocol on a socket."""

from __future__ import annotations

import _socket  # the module socket is larger than all of this package
import fcntl
import json
import os
from _thread import allocate_lock
from collections import deque
from struct import Struct

HELLO, INIT, FIT, EVALUATE, EXPORT, CANCEL, STOP, LOAD, PREDICT, LEARNER = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
PROGRESS, RESULT, ERROR = 64, 65, 66
DESCRIPTOR, SKIPPABLE = 1, 2
VERSION = 1
HEAD_MAX = 1 << 20
BODY_MAX = 8 << 30
INLINE_MAX = 64 * 1024  # more is worth a descriptor
SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW

_HEADER = Struct("<4sHHIIQ")
_KNOWN = {HELLO, INIT, FIT, EVALUATE, EXPORT, CANCEL, STOP, LOAD, PREDICT, LEARNER}


class ProtocolError(Exception):
    """The other side speaks something else: the connection is of no use any more."""


class Gone(Exception):
    """The other side has closed the connection."""


class Frame:
    __slots__ = ("type", "id", "head", "body", "fd", "size")

    def __init__(self, kind: int, number: int, head: dict, body: bytearray | None, fd: int, size: int) -> None:
        self.type, self.id, self.head, self.body, self.fd, self.size = kind, number, head, body, fd, size

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def move_away(fd: int) -> int:
    """To where code that plays with low descriptors does no harm."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64)
    os.close(fd)
    return moved


def write_all(fd: int, parts: list) -> None:
    """All the bytes of these buffers, however many and large."""
    rest = deque(memoryview(part).cast("B") for part in parts if len(part))
    while rest:
        done = os.writev(fd, [rest[i] for i in range(min(len(rest), 512))])
        while rest and done >= len(rest[0]):
            done -= len(rest.popleft())
        if done:
            rest[0] = rest[0][done:]


def sealed(parts: list) -> int:
    """A descriptor of memory that holds these buffers, one after the other, and changes no more."""
    fd = os.memfd_create("trainer", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        write_all(fd, parts)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


class Channel:
    """Whole frames in and out. Receiving is for one thread at a time; any may send."""

    def __init__(self, fd: int) -> None:
        self._socket = _socket.socket(fileno=fd)
        self._socket.setblocking(True)
        self._sending = allocate_lock()
        self.descriptors = False  # the other side takes them
        self.body_max = BODY_MAX  # of the other side

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def _read(self, size: int) -> bytearray:
        data = bytearray(size)
        view, done = memoryview(data), 0
        while done < size:
            try:
                got = self._socket.recv_into(view[done:])
            except ConnectionResetError:
                got = 0
            if got == 0:
                raise Gone()
            done += got
        return data

    def _read_header(self) -> tuple[bytes, int]:
        """And the descriptor that came with its first byte."""
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(_HEADER.size, _socket.CMSG_SPACE(4 * 4),
                                                             _socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            raise Gone() from None
        if not data:
            raise Gone()
        fds = [int.from_bytes(value[at:at + 4], "little") for level, kind, value in ancillary
               if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS for at in range(0, len(value) - 3, 4)]
        if len(fds) > 1 or flags & _socket.MSG_CTRUNC:
            raise ProtocolError("more than one descriptor came with a frame")
        return data + bytes(self._read(_HEADER.size - len(data))), fds[0] if fds else -1

    def receive(self) -> Frame:
        """The next frame that is known; its descriptor is the caller's."""
        while True:
            header, fd = self._read_header()
            magic, kind, flags, number, head_size, size = _HEADER.unpack(header)
            if magic != b"FLT1" or flags & ~(DESCRIPTOR | SKIPPABLE) or head_size > HEAD_MAX or size > BODY_MAX:
                raise ProtocolError("what came is no frame")
            if bool(flags & DESCRIPTOR) != (fd >= 0):
                raise ProtocolError("a descriptor is missing, or was not announced")
            head = json.loads(self._read(head_size)) if head_size else {}
            if not isinstance(head, dict):
                raise ProtocolError("the head of a frame is no object")
            frame = Frame(kind, number, head, None, fd, size)
            if fd < 0 and size:
                frame.body = self._read(size)
            elif fd >= 0:
                self._check(frame)
            if kind in _KNOWN:
                return frame
            frame.close()
            if not flags & SKIPPABLE:
                raise ProtocolError(f"a frame of unknown type {kind} came")

    @staticmethod
    def _check(frame: Frame) -> None:
        """What was sealed stays as it is while it is mapped."""
        wanted = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK
        if fcntl.fcntl(frame.fd, fcntl.F_GET_SEALS) & wanted != wanted or os.fstat(frame.fd).st_size != frame.size:
            raise ProtocolError("the memory of a frame is not sealed, or has another size")

    def send(self, kind: int, number: int, head: dict, parts: list | None = None) -> None:
        """`parts`: buffers that make up the body."""
        text = json.dumps(head).encode()
        size = sum(memoryview(part).nbytes for part in parts or [])
        if size > self.body_max or len(text) > HEAD_MAX:
            raise ValueError(f"a frame with a body of {size} bytes is more than the learner takes ({self.body_max})")
        fd = sealed(parts or []) if self.descriptors and size > INLINE_MAX else -1
        header = _HEADER.pack(b"FLT1", kind, DESCRIPTOR if fd >= 0 else 0, number, len(text), size)
        try:
            with self._sending:
                self._send(header, fd, [text] if fd >= 0 else [text, *(parts or [])])
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Gone() from error
        finally:
            if fd >= 0:
                os.close(fd)

    def _send(self, header: bytes, fd: int, parts: list) -> None:
        if fd >= 0:
            rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fd.to_bytes(4, "little"))]
            sent = self._socket.sendmsg([header], rights)
            write_all(self._socket.fileno(), [header[sent:], *parts])
        else:
            write_all(self._socket.fileno(), [header, *parts])
