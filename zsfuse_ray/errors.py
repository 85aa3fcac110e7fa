"""Errors shown to the user as messages, and the removal of secrets from them."""

import errno
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from urllib.parse import quote, unquote, unquote_plus

_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s'\"<>]*", re.I)
_PAIR = re.compile(r"([?&;#])([^=&;?#\s'\"<>]+)=([^&;#\s'\"<>)]*)")
_NAMED = ("s3", "gs", "file")  # ? and # may be letters of a name here
# Parameters whose values are shown, if they are short and plain; any other may be a secret.
_SHOWN = frozenset((
    "end", "ep", "episode", "format", "generation", "id", "lang", "page", "part", "region", "scheme",
    "season", "start", "t", "track", "version", "versionid",
))  # fmt: skip
_PLAIN = re.compile(r"[\w.,+-]{0,16}|\*\*\*")
HIDDEN = "***"


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


def redact(text: str, *uris: str) -> str:
    """Return a message without the secrets of the URIs in it: users, passwords, query values, fragments.

    uris: those that it is about, whose secrets are removed wherever they are, as in "no bucket KEY:SECRET".
    """
    for secret in sorted({secret for uri in uris for secret in _secrets(uri)}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    if "://" not in text:
        return text
    text = _URL.sub(_of_match, text)
    return _PAIR.sub(_of_pair, text)  # of a URI with spaces


def redact_uri(uri: str) -> str:
    """Return a URI without user:password@, and with *** for the values of its query and fragment.

    A few plain parameters such as part=2 are shown. A path is returned as it is.
    """
    scheme, mark, rest = uri.partition("://")
    if not mark or not _is_scheme(scheme):
        return uri
    rest = rest[_user_length(scheme, rest) :]
    if scheme.lower() in _NAMED:
        return scheme + mark + _PAIR.sub(_of_pair, rest)
    path, query, fragment = _parts(rest)
    shown = scheme + mark + path
    if query is not None:
        shown += "?" + re.sub(r"[^&;]+", lambda m: _parameter(m[0]), query)
    return shown if fragment is None else f"{shown}#{_parameter(fragment)}"


def _of_match(match: re.Match[str]) -> str:
    uri = match[0].rstrip(":,.;)]}")
    return redact_uri(uri) + match[0][len(uri) :]


def _of_pair(match: re.Match[str]) -> str:
    value = match[3].rstrip(":,.")
    return match[1] + _parameter(f"{match[2]}={value}") + match[3][len(value) :]


def _is_scheme(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", text) is not None


def _user_length(scheme: str, rest: str) -> int:
    """Length of user:password@, also if the password contains a slash, which no parser accepts."""
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        return authority.rindex("@") + 1
    _, colon, port = authority.partition(":")
    is_port = not colon or authority.startswith(("[", "arn:")) or (port.isdigit() and scheme not in _NAMED)
    return 0 if is_port else rest.rfind("@") + 1


def _parts(rest: str) -> tuple[str, str | None, str | None]:
    """Path, query and fragment, None if there is none."""
    rest, mark, fragment = rest.partition("#")
    path, question, query = rest.partition("?")
    return path, query if question else None, fragment if mark else None


def _parameter(text: str) -> str:
    """One name=value, or a value alone, as it is shown."""
    name, equals, value = text.partition("=")
    if not equals:
        return text if not text or text.lower() in _SHOWN else HIDDEN
    is_shown = name.lower() in _SHOWN and _PLAIN.fullmatch(value)
    return text if is_shown or not value else f"{name}={HIDDEN}"


def _secrets(uri: str) -> Iterator[str]:
    """Texts that `redact_uri` removes, in the forms in which a library may repeat them."""
    scheme, mark, rest = uri.partition("://")
    if not mark:
        return
    length = _user_length(scheme, rest)
    user, rest = rest[: max(length - 1, 0)], rest[length:]
    found = [user, *re.split("[/:]", user), user.split("/")[0], user.partition(":")[2]]
    _, query, fragment = _parts(rest)
    for parameter in re.split("[&;]", f"{query or ''}&{fragment or ''}"):
        if parameter and _parameter(parameter) != parameter:
            found.append(parameter.partition("=")[2] or parameter)
    for secret in found:
        if len(secret) >= 4:  # a shorter one would remove parts of words
            yield from (secret, unquote(secret), unquote_plus(secret), quote(secret, safe=""))


def disk_problem(error: BaseException) -> str | None:
    """What is wrong with the disk, and the way out, if that is what an error is about."""
    number = getattr(error, "errno", None)
    if number not in _DISK:
        text = str(error)
        number = next((number for words, number in _WORDS.items() if words in text), None)
    return _DISK.get(number) if number is not None else None
