"""Mistakes a user can make and mend: one line each, exit code 2, and no secrets in it."""

import re
import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import NoReturn

_USER = re.compile(r"([a-z][a-z0-9+.-]*://)[^/?#\s'\"]*@", re.I)
_SECRET = re.compile(
    r"([?&;](?:[^=&;?#\s]*(?:sig|token|key|secret|credential|passw|pwd|auth|session|policy)[^=&;?#\s]*"
    r"|x-(?:amz|goog)-[^=&;?#\s]*|se|sp|sv|sr|st|spr|sip|expires)=)[^&;#\s'\"<>)]+",
    re.I,
)


class InputError(ValueError):
    """A wrong option, label, path, model or file: the message is one line, the thing and the way out."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return ' (did you mean "x"?)', or the valid names where none is near."""
    names = sorted(valid)
    close = get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    return f' (did you mean "{close[0]}"?)' if close else f" (one of {', '.join(names)})"


def redact(text: str) -> str:
    """Return the text with user:password@ and the values of secret query parameters removed from its URLs."""
    return _SECRET.sub(r"\1***", _USER.sub(r"\1", text))


def run_job(main: Callable[[list[str]], int], argv: list[str]) -> NoReturn:
    """Run a job's main and exit with its code; an InputError is one line on stderr and exit code 2."""
    try:
        code = main(argv)
    except InputError as error:
        print(f"error: {redact(str(error))}", file=sys.stderr)
        code = 2
    sys.exit(code)
