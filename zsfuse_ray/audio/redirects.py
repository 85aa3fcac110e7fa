"""Where a web server may redirect to: with --allow-hosts only to addresses that a manifest may name.

The setting is a variable of the environment, which the child that decodes inherits.
"""

import os
from collections.abc import Sequence
from functools import cache
from typing import Any
from urllib.parse import urljoin

import aiohttp

from zsfuse_ray.errors import redact_uri
from zsfuse_ray.stores import is_allowed

VARIABLE = "ZSFUSE_ALLOW_HOSTS"


class RedirectError(Exception):
    """A redirection to an address that is not allowed."""


def allow_only(hosts: Sequence[str]) -> None:
    """Refuse redirections to other addresses, in this process and the child that decodes; () allows all."""
    if hosts:
        os.environ[VARIABLE] = ",".join(hosts)
    else:
        os.environ.pop(VARIABLE, None)


def trace_configs() -> list[aiohttp.TraceConfig]:
    """For an aiohttp session: raises RedirectError instead of following one that is not allowed."""
    hosts = os.environ.get(VARIABLE)
    return [_guard(tuple(hosts.split(",")))] if hosts else []


@cache  # fsspec keeps a session for each set of equal options
def _guard(hosts: tuple[str, ...]) -> aiohttp.TraceConfig:
    async def check(session: Any, context: Any, redirect: Any) -> None:
        headers = redirect.response.headers
        target = urljoin(str(redirect.url), headers.get("Location") or headers.get("URI") or "")
        if not is_allowed(target, hosts):
            redirect.response.close()
            allowed = ",".join(hosts)
            raise RedirectError(
                f"redirects to {redact_uri(target)}, which is not an address of --allow-hosts {allowed}"
            )

    config = aiohttp.TraceConfig()
    config.on_request_redirect.append(check)
    return config
