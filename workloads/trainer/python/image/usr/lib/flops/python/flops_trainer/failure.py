"""What went wrong, in words for people."""

from __future__ import annotations

import sys

MESSAGE_MAX = 4000
TRACEBACK_MAX = 60000
HERE = __file__.rpartition("/")[0]


class Failure(Exception):
    """Ends a request: `reason` is a word, `message` a sentence."""

    def __init__(self, reason: str, message: str, traceback: str = "") -> None:
        super().__init__(message)
        self.reason, self.message, self.traceback = reason, message, traceback

    def head(self) -> dict[str, object]:
        head: dict[str, object] = {"reason": self.reason, "message": cut(self.message, MESSAGE_MAX)}
        if self.traceback:
            head["traceback"] = cut(self.traceback, TRACEBACK_MAX, end=True)
        return head


class Cancelled(BaseException):
    """Raised into code whose result is not wanted any more. No Exception, so that it is not caught by chance."""


def cut(text: str, size: int, end: bool = False) -> str:
    """At most so many bytes, of a traceback the last ones, which say most."""
    data = text.encode("utf-8", "replace")
    if len(data) <= size:
        return data.decode("utf-8", "replace")
    return (data[-size:] if end else data[:size]).decode("utf-8", "ignore")


def _is_ours(filename: str) -> bool:
    return filename.startswith((HERE, "<frozen importlib")) or filename.endswith("/importlib/__init__.py")


def _is_users(filename: str) -> bool:
    """And not of a package that they use."""
    return not filename.startswith("<") and "-packages/" not in filename and "/lib/python" not in filename


def _reason_of(error: BaseException, otherwise: str) -> str:
    # PyTorch's is a RuntimeError of this name.
    if isinstance(error, MemoryError) or type(error).__name__ in ("OutOfMemoryError", "ResourceExhaustedError"):
        return "OutOfMemory"
    if isinstance(error, SystemExit):
        return "CodeExited"
    return otherwise


def _what(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"the code ended itself by sys.exit({error.code!r})"
    try:
        text = str(error)
    except Exception:  # its own __str__ is the user's code, too
        text = "(it has no words for itself)"
    name = type(error).__name__
    return f"{name}: {text}" if text else name


def failure_of(error: BaseException, doing: str, otherwise: str = "CodeFailed") -> Failure:
    """Of what users' code raised while `doing` something: where, and the frames that are theirs."""
    import traceback

    if isinstance(error, Failure):
        return error
    trace = error.__traceback__
    while trace and _is_ours(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    theirs = [frame for frame in traceback.extract_tb(trace) if not _is_ours(frame.filename)]
    where = ""
    if theirs:
        last = ([frame for frame in theirs if _is_users(frame.filename)] or theirs)[-1]
        where = f" ({last.filename.rpartition('/')[2]}, line {last.lineno}, in {last.name})"
    text = "".join(traceback.format_exception(type(error), error, trace))
    return Failure(_reason_of(error, otherwise), f"{doing}: {_what(error)}{where}", text)


_said: set[str] = set()


def say(text: str, once: bool = False) -> None:
    """To the learner's log; what comes back every round, `once`."""
    if once and (text in _said or len(_said) > 1000):
        return
    _said.add(text)
    print(f"flops-trainer: {text}", file=sys.stderr, flush=True)
