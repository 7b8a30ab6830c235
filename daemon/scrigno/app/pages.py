# SPDX-License-Identifier: Apache-2.0
"""The listening end of the pages and the API."""

from typing import Final

from aiohttp import web

from scrigno.core.errors import CommandError
from scrigno.settings.schema import WebConfig

from .starter import Starter

GRACE_S: Final = 5.0  # for answers on their way when the box stops
HEADER_BYTES: Final = 16 << 10


async def serve_pages(app: web.Application, config: WebConfig, starter: Starter) -> tuple[int, ...]:
    """Serve `app` where the configuration says; returns the ports. Raises CommandError."""
    runner = web.AppRunner(
        app,
        access_log=None,
        shutdown_timeout=GRACE_S,
        max_line_size=HEADER_BYTES,
        max_field_size=HEADER_BYTES,
    )
    await runner.setup()
    starter.on_stop("pages", runner.cleanup)
    try:
        await web.TCPSite(runner, config.host, config.port).start()
    except OSError as error:
        raise CommandError(
            f"Port {config.port} for the pages cannot be used: {error.strerror}.",
            next_step="Stop the program that uses it, or set web.port in the configuration.",
        ) from error
    return tuple(sorted({address[1] for address in runner.addresses}))
