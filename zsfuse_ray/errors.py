"""Errors shown to the user as messages, and the removal of secrets from them."""

import errno
import re
from collections.abc import Iterable
from difflib import get_close_matches

_USER = re.compile(r"([a-z][a-z0-9+.-]*://)[^/?#\s'\"]*@", re.I)
_SECRET = re.compile(
    r"([?&;](?:[^=&;?#\s]*(?:sig|token|key|secret|credential|passw|pwd|auth|session|policy)[^=&;?#\s]*"
    r"|x-(?:amz|goog)-[^=&;?#\s]*|se|sp|sv|sr|st|spr|sip|expires)=)[^&;#\s'\"<>)]+",
    re.I,
)


# Errors of a disk that no file of the archive can be blamed for, and the way out.
_DISK = {
    errno.ENOSPC: "no space left on the disk; make room",
    errno.EDQUOT: "the disk quota is used up; make room",
    errno.EROFS: "the disk has become read-only; make it writable",
}
_WORDS = {
    "No space left on device": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "Read-only file system": errno.EROFS,
}


class InputError(ValueError):
    """A wrong option, label, path, model or file: a one-line message names it and the way out."""


class RunError(RuntimeError):
    """A run that failed without a mistake in the command: the message gives the cause and what to do."""


class Stopped(RunError):
    """A run that a full disk, an outage or a lost cluster has stopped, and that can be resumed."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return ' (did you mean "x"?)', or the valid names if none is similar."""
    names = sorted(valid)
    close = get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    return f' (did you mean "{close[0]}"?)' if close else f" (one of {', '.join(names)})"


def redact(text: str) -> str:
    """Return the text with user:password@ and the values of secret query parameters removed from its URLs."""
    return _SECRET.sub(r"\1***", _USER.sub(r"\1", text))


def disk_problem(error: BaseException) -> str | None:
    """What is wrong with the disk, and the way out, if that is what an error is about."""
    number = getattr(error, "errno", None)
    if number not in _DISK:
        text = str(error)
        number = next((number for words, number in _WORDS.items() if words in text), None)
    return _DISK.get(number) if number is not None else None
