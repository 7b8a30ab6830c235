# SPDX-License-Identifier: Apache-2.0
"""What is answered to bytes that are no request: few words, none of the caller's, no version.

aiohttp's own answer repeats what came and names itself, and its log line holds the bytes, which
may be a token or a patient's name.
"""

import json
import logging

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from typing_extensions import override

from .guard import SECURITY_HEADERS

log = logging.getLogger(__name__)


class _Handler(RequestHandler):
    __slots__ = ()

    @override
    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        kind = type(exc).__name__ if exc is not None else "none"
        if status >= 500:
            log.error("web: a request from %s failed outside its handler: %s", request.remote, kind)
        else:
            log.info("web: what came from %s is no request: %s", request.remote, kind)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun")
        response = web.Response(
            status=status,
            body=json.dumps(
                {
                    "type": "urn:scrigno:problem:bad-request",
                    "title": "Bad Request" if status < 500 else "Internal Server Error",
                    "status": status,
                    "code": "bad-request" if status < 500 else "internal-error",
                    "detail": "This is no request that can be understood.",
                }
            ).encode(),
            content_type="application/problem+json",
            headers={**SECURITY_HEADERS, "Server": "Scrigno", "Cache-Control": "no-store"},
        )
        response.force_close()
        return response


class _Server(web.Server):
    @override
    def __call__(self) -> RequestHandler:
        return _Handler(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """Serves an application as AppRunner does, with our own words for broken requests.

    aiohttp 3.14 has no way to name another handler class, so the server it made is given one.
    """

    @override
    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        server.__class__ = _Server
        return server
