"""How a command runs as a process: its messages on stderr, its exit code, how it stops on a signal."""

import atexit
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from tqdm import tqdm

from zsfuse_ray.errors import InputError, RunError, Stopped, redact

SHUTDOWN_S = 7.0  # time Ray has to end its processes after a signal


class Terminated(KeyboardInterrupt):
    """Raised in the main thread on SIGTERM: code that stops on Ctrl-C also stops on it."""


class Lost(KeyboardInterrupt):
    """Raised in the main thread when a process that the command needs is gone; the message says which."""


_lost: list[str] = []  # the message of `stop_command`


def run_job(
    main: Callable[[list[str]], int], argv: list[str], stopped: str = "stopped; the same command resumes"
) -> NoReturn:
    """Run a command's main and exit with its code.

    An InputError is one line on stderr and exit code 2, a RunError its lines and exit code 1. Whatever
    stops a run ends with `stopped` in the last line: Ctrl-C and SIGTERM with 130 and 143, a Stopped with 3.
    """
    with messages_on_stderr(), sigterm_raises():
        try:
            code = main(argv)
        except InputError as error:
            print(f"error: {redact(str(error))}", file=sys.stderr)
            code = 2
        except Stopped as error:
            lines = redact(str(error))
            lines = lines if "\n" in lines else f"error: {lines}"
            print(f"{lines}; {stopped}", file=sys.stderr, flush=True)
            code = 3
            atexit.register(_end_within, SHUTDOWN_S, code)  # Ray's own exit may wait for what is lost
        except RunError as error:
            print(redact(str(error)), file=sys.stderr)
            code = 1
        except KeyboardInterrupt as interrupt:
            if isinstance(interrupt, Lost):
                _stop(f"error: {interrupt}; {stopped}", 3)
            _stop(stopped, 143 if isinstance(interrupt, Terminated) else 130)
    sys.exit(code)


class _Lines(logging.Handler):
    """Writes messages as plain lines to stderr, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)
        sys.stderr.flush()


@contextmanager
def messages_on_stderr() -> Iterator[None]:
    """Print the package's log messages, from INFO up, while the block runs."""
    logger, handler = logging.getLogger("zsfuse_ray"), _Lines()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Raise Terminated on SIGTERM while the block runs, in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, frame: Any) -> None:
        raise Lost(_lost[0]) if _lost else Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def stop_command(message: str) -> None:
    """Stop the command that `run_job` runs, from any thread; outside of it, do nothing."""
    if getattr(signal.getsignal(signal.SIGTERM), "__qualname__", "").startswith(sigterm_raises.__name__):
        _lost.append(message)
        # to the main thread, which may be asleep: the kernel could choose any other
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
        _end_within(SHUTDOWN_S, 3)  # the main thread may wait for what is lost


def _end_within(seconds: float, code: int) -> None:
    limit = threading.Timer(seconds, os._exit, [code])
    limit.daemon = True
    limit.start()


def _stop(message: str, code: int) -> NoReturn:
    """End the process within seconds, together with the local Ray that it started."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(code))
    print(f"\n{message}" if sys.stderr.isatty() else message, file=sys.stderr, flush=True)
    _end_within(SHUTDOWN_S, code)
    ray: Any = sys.modules.get("ray")  # only if imported already
    if hasattr(ray, "is_initialized") and ray.is_initialized():
        with open(os.devnull, "w") as nowhere:  # its threads log every closed connection
            os.dup2(nowhere.fileno(), sys.__stderr__.fileno() if sys.__stderr__ else 2)
            ray.shutdown()
    sys.stdout.flush()
    # Not sys.exit: library threads that still run have caused segmentation faults there.
    os._exit(code)
