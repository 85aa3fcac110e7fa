"""Probe and decode in a child process: no file can crash, stall or exhaust the process that asks.

One child serves all calls of a process, one at a time. Only a crash, a time-out or a memory error ends it;
the next call then starts another, which takes half a second.
"""

import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from zsfuse_ray.audio import decode as decoding
from zsfuse_ray.audio.decode import MOST_SPLIT, DecodeError, Pcm, Probe
from zsfuse_ray.audio.segment import Channels
from zsfuse_ray.audio.sources import AudioError
from zsfuse_ray.errors import disk_problem

CRASHES = 3  # of the child on one call before the file is given up; memory pressure may also be the cause
PROBE_TIMEOUT_S, DECODE_TIMEOUT_S = 300.0, 600.0
GRACE_S = 5.0  # the code in the child has this long to notice its own deadline
# Address space of one call beyond that of the idle child: for any header, and for each second of audio that
# may be returned (at 48 kHz eight copies, at 192 kHz two).
MEMORY_BYTES = 1 << 30
MEMORY_BYTES_PER_S = 800_000
_START_S = 120.0  # limit for importing the decoders on a busy machine
_MAIN = "import sys; from zsfuse_ray.audio.isolated import serve; serve(int(sys.argv[1]))"
_STORES = ("AWS_", "CLOUD", "FSSPEC_", "GOOGLE_", "HF_", "HTTP", "SSL_", "ZSFUSE_")
_QUIET = {"MALLOC_ARENA_MAX": "2", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # small address space


class ChildError(RuntimeError):
    """The child could not be started: a fault of the machine, never of a file."""


def warm_up() -> None:
    """Start the child, so that a measurement of calls does not include it."""
    _CHILD.start()


def probe(uri: str, *, timeout_s: float = PROBE_TIMEOUT_S) -> Probe:
    """`decode.probe` in the child. Raises DecodeError, also with the reasons crashed and out_of_memory,
    SourceError and ChildError."""
    return _CHILD.call("probe", uri, MEMORY_BYTES, timeout_s)


def decode(
    uri: str,
    start_s: float = 0.0,
    end_s: float | None = None,
    *,
    timeout_s: float = DECODE_TIMEOUT_S,
    max_s: float = 7200,
) -> Pcm:
    """`decode.decode` in the child. Raises DecodeError, also with the reasons crashed and out_of_memory,
    SourceError and ChildError."""
    return decode_channels(uri, start_s, end_s, channels="mix", timeout_s=timeout_s, max_s=max_s)[0]


def decode_channels(
    uri: str,
    start_s: float = 0.0,
    end_s: float | None = None,
    *,
    channels: Channels,
    timeout_s: float = DECODE_TIMEOUT_S,
    max_s: float = 7200,
) -> list[Pcm]:
    """`decode.decode_channels` in the child. Raises the same as `decode`."""
    longest = max_s if end_s is None else min(max_s, max(0.0, end_s - start_s))
    returned = MOST_SPLIT if channels == "split" else 1
    memory = MEMORY_BYTES + int(MEMORY_BYTES_PER_S * longest * returned)
    times = {"start_s": start_s, "end_s": end_s, "max_s": max_s}
    return _CHILD.call("decode_channels", uri, memory, timeout_s, channels=channels, **times)


class _Died(Exception):
    """The child ended during a call; returncode as in subprocess."""

    def __init__(self, returncode: int | None):
        self.returncode = returncode


class _Child:
    """The child of this process, started by the first call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None
        self._connection: Connection | None = None
        self._owner = 0
        self._reaching: dict[str, str] = {}

    def call(self, name: str, uri: str, memory: int, timeout_s: float, **arguments: Any) -> Any:
        """The result of a function of `audio.decode` in the child, or its error."""
        request = pickle.dumps((name, uri, {"timeout_s": timeout_s, **arguments}, memory))
        returncode = None
        for _ in range(CRASHES):
            try:
                with self._lock:
                    is_result, value = self._ask(request, timeout_s + GRACE_S)
            except _Died as death:
                returncode = death.returncode
                if returncode in (None, -signal.SIGALRM):
                    raise DecodeError("timeout", f"not read within {timeout_s:g} s: {uri}") from None
                continue
            if is_result:
                return value
            raise value
        why = f"signal {signal.Signals(-returncode).name}" if returncode and returncode < 0 else "an exit"
        raise DecodeError("crashed", f"reading it ended {CRASHES} processes ({why}): {uri}")

    def _ask(self, request: bytes, limit_s: float) -> tuple[bool, Any]:
        self._start_if_needed()
        process, connection = self._process, self._connection
        assert process is not None
        assert connection is not None
        answer: tuple[bool, Any, bool] | None = None
        try:
            connection.send_bytes(pickle.dumps(limit_s))
            connection.send_bytes(request)
            if not connection.poll(
                limit_s + GRACE_S
            ):  # not even its own alarm ended it: a dead disk or mount
                raise _Died(None)
            answer = connection.recv()
        except (EOFError, OSError):
            with suppress(subprocess.TimeoutExpired):
                raise _Died(process.wait(GRACE_S)) from None
            raise _Died(None) from None
        finally:  # also after an interrupt: a late answer must not be taken for that of the next call
            if answer is None or answer[2]:
                self._end()
        assert answer is not None
        return answer[0], answer[1]

    def start(self) -> None:
        """Start the process, unless it runs."""
        with self._lock:
            self._start_if_needed()

    def _start_if_needed(self) -> None:
        if self._owner != os.getpid():  # none yet, or this process is a fork of its owner
            self._process = self._connection = None
        if self._process is None or self._connection is None or self._process.poll() is not None:
            self._start()
        elif self._reaching != _reaching():  # such as credentials set after the first call
            self._end()
            self._start()

    def _start(self) -> None:
        here, there = Pipe()
        self._reaching = _reaching()
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _MAIN, str(there.fileno()), f"of {sys.argv[0]}"],  # the last for ps
            pass_fds=(there.fileno(),),
            env={**os.environ, **_QUIET, "PYTHONPATH": paths},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        there.close()
        self._connection, self._owner = here, os.getpid()
        try:
            if not here.poll(_START_S):
                raise EOFError
            here.recv()
        except (EOFError, OSError):
            self._end()
            raise ChildError(f"the process that decodes audio did not start ({sys.executable})") from None
        except BaseException:  # an interrupt: its first message must not be taken for an answer
            self._end()
            raise

    def _end(self) -> None:
        if self._process is not None and self._connection is not None:
            self._connection.close()
            self._process.kill()
            with suppress(subprocess.TimeoutExpired):  # one that waits for a dead disk ends with it
                self._process.wait(1)
        self._process = self._connection = None


def _reaching() -> dict[str, str]:
    """The variables of the environment that say how a store is reached."""
    return {name: value for name, value in os.environ.items() if name.upper().startswith(_STORES)}


_CHILD = _Child()


def serve(descriptor: int) -> None:
    """Answer calls until the parent ends: the main function of the child."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends this process
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")  # if memory runs out, this process goes first
    connection = Connection(descriptor)
    idle = _address_space()
    connection.send(None)
    while True:
        try:
            limit_s = pickle.loads(connection.recv_bytes())
            name, uri, arguments, memory = pickle.loads(connection.recv_bytes())
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_REAL, limit_s)
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = idle + memory if hard == resource.RLIM_INFINITY else min(idle + memory, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
        is_result, value, worn = _answer(getattr(decoding, name), uri, arguments, memory)
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        worn = (
            worn or _address_space() > idle + MEMORY_BYTES // 2
        )  # a leak would become the next file's fault
        connection.send((is_result, value, worn))


def _answer(
    function: Callable[..., Any], uri: str, arguments: dict[str, Any], memory: int
) -> tuple[bool, Any, bool]:
    """Whether there is a result; it, or the error; and whether this process must not be used again."""
    try:
        return True, function(uri, **arguments), False
    except AudioError as error:
        return False, error, False
    except ImportError as error:  # a broken installation, not a broken file
        return False, ImportError(str(error)), False
    except MemoryError:
        return (
            False,
            DecodeError("out_of_memory", f"reading it takes over {memory / 1e9:.1f} GB: {uri}"),
            True,
        )
    except Exception as error:  # a broken file can cause any error in a decoder; not all survive pickling
        if isinstance(error, OSError) and disk_problem(error) is not None:  # of this machine
            return False, OSError(*error.args), False
        return False, DecodeError("decoder_error", f"{type(error).__name__}: {error}"), True


def _address_space() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()
