# SPDX-License-Identifier: Apache-2.0
"""Where the log goes: standard error always, a rotated file when a directory is named.

Records pass through a queue, so that neither formatting nor a slow disk holds the loop. Texts
from peers may hold line breaks and control characters: they are escaped, one record is one line.
The newest lines are kept in memory too, for the pages of a box that writes no files.
"""

import logging
import logging.handlers
import queue
import re
import sys
import time
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from typing_extensions import override

from scrigno.core.tracing import REQUEST
from scrigno.settings.schema import LogConfig, LogLevel
from scrigno.web.log_files import LogFile, LogFiles, UnknownLog

FILE_NAME: Final = "scrigno.log"
FILE_BYTES: Final = 10 << 20
FILE_COUNT: Final = 10
QUEUE_RECORDS: Final = 20_000  # a few MiB at worst; over it records are dropped and counted
RECENT_LINES: Final = 5_000
MOST_OF_A_LINE: Final = 8 << 10  # a text of a peer must not fill the log
# These tell of each request and each byte; theirs is not the operator's logbook.
QUIET: Final = ("aiohttp.access", "asyncio", "pydicom", "pynetdicom", "PIL")
_ESCAPES: Final = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), 127)}
_NAMES: Final = re.compile(r"scrigno\.log(?:\.\d{1,3})?")


class LineFormatter(logging.Formatter):
    """`2026-01-31T12:00:00Z LEVEL room: message`, one line, control characters escaped.

    A record of a request ends with its id: `[request 1a2b3c4d5e6f]`.
    """

    def __init__(self) -> None:
        """Fix the format and UTC."""
        super().__init__(
            "%(asctime)s.%(msecs)03dZ %(levelname)-8s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
        )
        self.converter = time.gmtime

    @override
    def format(self, record: logging.LogRecord) -> str:
        message, newline, trace = super().format(record).partition("\nTraceback")
        line = message.replace("\n", "\\n").translate(_ESCAPES)
        if len(line) > MOST_OF_A_LINE:
            line = f"{line[:MOST_OF_A_LINE]}… ({len(line)} characters)"
        request = getattr(record, "request_id", "")
        if request:
            line = f"{line} [request {request}]"
        return f"{line}{newline}{trace.translate(_ESCAPES)}"


class _BoundedQueueHandler(logging.handlers.QueueHandler):
    @override
    def enqueue(self, record: logging.LogRecord) -> None:
        # here, where the record is made: the writer thread works for no request
        record.request_id = REQUEST.get()
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped = getattr(self, "dropped", 0) + 1


class _Recent(logging.Handler):
    """The newest lines, in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: deque[str] = deque(maxlen=RECENT_LINES)

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


class Logs(LogFiles):
    """Owns the root logger while the daemon runs."""

    def __init__(self, config: LogConfig) -> None:
        """Open the outputs and start the writer thread; raises OSError for a bad directory."""
        self._folder = config.dir
        self._recent = _Recent()
        outputs: list[logging.Handler] = [logging.StreamHandler(sys.stderr), self._recent]
        if config.dir is not None:
            config.dir.mkdir(parents=True, exist_ok=True)
            outputs.append(
                logging.handlers.RotatingFileHandler(
                    config.dir / FILE_NAME,
                    maxBytes=FILE_BYTES,
                    backupCount=FILE_COUNT,
                    encoding="utf-8",
                )
            )
        for output in outputs:
            output.setFormatter(LineFormatter())
        records: queue.Queue[logging.LogRecord] = queue.Queue(QUEUE_RECORDS)
        self._handler = _BoundedQueueHandler(records)
        self._listener = logging.handlers.QueueListener(records, *outputs)
        self._outputs = outputs
        self._set_apart: set[str] = set()
        root = logging.getLogger()
        root.addHandler(self._handler)
        self.set_level(config.level)
        for name in QUIET:
            logging.getLogger(name).setLevel(logging.WARNING)
        self._listener.start()

    @property
    def dropped(self) -> int:
        """Return how many records were lost because the writer could not keep up."""
        return getattr(self._handler, "dropped", 0)

    def set_level(self, level: LogLevel) -> None:
        """Say more or less from now on."""
        logging.getLogger().setLevel(level.upper())

    def set_levels(self, level: LogLevel, apart: Mapping[str, LogLevel]) -> None:
        """Say more or less from now on, some rooms apart (`node`, `web.guard`)."""
        self.set_level(level)
        for name in self._set_apart - set(apart):
            logging.getLogger(f"scrigno.{name}").setLevel(logging.NOTSET)
        for name, own in apart.items():
            logging.getLogger(f"scrigno.{name}").setLevel(own.upper())
        self._set_apart = set(apart)

    # for the pages; blocking ---------------------------------------------------------------

    @override
    def files(self) -> list[LogFile]:
        found: list[LogFile] = []
        for path in self._paths():
            try:
                about = path.stat()
            except FileNotFoundError:
                continue  # rotated away this moment
            found.append(LogFile(path.name, about.st_size, about.st_mtime))
        if not found:
            size = sum(len(line) + 1 for line in tuple(self._recent.lines))
            found.append(LogFile(FILE_NAME, size, time.time()))
        return found

    @override
    def lines(self, name: str, *, newest_first: bool = True) -> Iterable[str]:
        path = self._path(name)
        if path is None:
            kept = list(self._recent.lines)
        else:
            kept = path.read_text(encoding="utf-8", errors="replace").splitlines()
        return reversed(kept) if newest_first else kept

    @override
    def content(self, name: str) -> bytes:
        path = self._path(name)
        if path is None:
            return "".join(f"{line}\n" for line in tuple(self._recent.lines)).encode()
        return path.read_bytes()

    def _paths(self) -> list[Path]:
        if self._folder is None or not self._folder.is_dir():
            return []
        found = [each for each in self._folder.iterdir() if _NAMES.fullmatch(each.name)]
        return sorted(found, key=lambda each: (len(each.name), each.name))

    def _path(self, name: str) -> Path | None:
        """Return the file of that name by looking through those there are; None: in memory."""
        paths = self._paths()
        for path in paths:
            if path.name == name:
                return path
        if name == FILE_NAME and not paths:
            return None
        raise UnknownLog("There is no such log file.")

    def close(self) -> None:
        """Write what is queued and let the root logger go."""
        logging.getLogger().removeHandler(self._handler)
        self.set_levels(LogLevel.WARNING, {})
        self._listener.stop()
        for output in self._outputs:
            output.close()
