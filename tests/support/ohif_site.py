# SPDX-License-Identifier: Apache-2.0
"""OHIF's published build, served unchanged but for its configuration file, before a box."""

import http.client
import json
import mimetypes
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent.parent
FOLDER = Path(os.environ.get("SCRIGNO_OHIF") or REPOSITORY / "build" / "ohif" / "package" / "dist")
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "server", "date"})


def config(root: str) -> bytes:
    """Return an app-config.js with one DICOMweb source; everything else is OHIF's own default."""
    source: dict[str, Any] = {
        "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
        "sourceName": "scrigno",
        "configuration": {
            "friendlyName": "Scrigno",
            "name": "scrigno",
            "qidoRoot": root,
            "wadoRoot": root,
            "wadoUriRoot": root.replace("/dicom-web", "/wado"),
            "qidoSupportsIncludeField": True,
            "supportsFuzzyMatching": True,
            "supportsWildcard": True,
            "imageRendering": "wadors",
            "thumbnailRendering": "wadors",
            "enableStudyLazyLoad": True,
            "bulkDataURI": {"enabled": True},
        },
    }
    settings = {
        "routerBasename": None,
        "extensions": [],
        "modes": [],
        "customizationService": {},
        "showStudyList": True,
        "maxNumberOfWebWorkers": 2,
        "showWarningMessageForCrossOrigin": False,
        "showCPUFallbackMessage": False,
        "showLoadingIndicator": True,
        "strictZSpacingForVolumeViewport": True,
        "defaultDataSourceName": "scrigno",
        "dataSources": [source],
    }
    return f"window.config = {json.dumps(settings)};".encode()


class OhifSite:
    """Serves OHIF at /; with `box_port` it also passes DICOMweb and the API on to a box."""

    def __init__(self, root: str, box_port: int | None = None) -> None:
        site = self
        self.root = root

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if box_port is not None and self.path.startswith(("/dicom-web", "/viewer/api")):
                    self.pass_on(box_port)
                else:
                    self.serve()

            def do_POST(self) -> None:
                self.pass_on(box_port or 0)

            def serve(self) -> None:
                path = self.path.partition("?")[0].lstrip("/")
                if path == "app-config.js":
                    self.answer(200, "text/javascript", config(site.root))
                    return
                file = FOLDER / path
                if not path or not file.is_file() or not file.resolve().is_relative_to(FOLDER):
                    file = FOLDER / "index.html"  # the routes of a single-page application
                kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
                self.answer(200, kind, file.read_bytes())

            def pass_on(self, port: int) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                box = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                try:
                    box.request(
                        self.command,
                        self.path,
                        body=self.rfile.read(length) if length else None,
                        headers=dict(self.headers.items()),
                    )
                    answer = box.getresponse()
                    content = answer.read()
                finally:
                    box.close()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in _HOP_BY_HOP and name.lower() != "content-length":
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def answer(self, status: int, kind: str, content: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                # OHIF wants shared memory for volumes
                self.send_header("Cross-Origin-Opener-Policy", "same-origin")
                self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """Say nothing: a browser that leaves resets its connections."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.origin = f"http://127.0.0.1:{self.port}"
        if box_port is not None:
            self.root = f"{self.origin}/dicom-web"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
