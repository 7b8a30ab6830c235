# SPDX-License-Identifier: Apache-2.0
"""Where the log goes: standard error always, a rotated file when a directory is named.

Records pass through a queue, so that neither formatting nor a slow disk holds the loop. Texts
from peers may hold line breaks and control characters: they are escaped, one record is one line.
"""

import logging
import logging.handlers
import queue
import sys
import time
from typing import Final

from typing_extensions import override

from scrigno.settings.schema import LogConfig, LogLevel

FILE_BYTES: Final = 10 << 20
FILE_COUNT: Final = 10
QUEUE_RECORDS: Final = 20_000  # a few MiB at worst; over it records are dropped and counted
_ESCAPES: Final = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), 127)}


class LineFormatter(logging.Formatter):
    """`2026-01-31T12:00:00Z LEVEL room: message`, one line, control characters escaped."""

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
        return f"{line}{newline}{trace.translate(_ESCAPES)}"


class _BoundedQueueHandler(logging.handlers.QueueHandler):
    @override
    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped = getattr(self, "dropped", 0) + 1


class Logs:
    """Owns the root logger while the daemon runs."""

    def __init__(self, config: LogConfig) -> None:
        """Open the outputs and start the writer thread; raises OSError for a bad directory."""
        outputs: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
        if config.dir is not None:
            config.dir.mkdir(parents=True, exist_ok=True)
            outputs.append(
                logging.handlers.RotatingFileHandler(
                    config.dir / "scrigno.log",
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
        root = logging.getLogger()
        root.addHandler(self._handler)
        self.set_level(config.level)
        # These tell of each request and each byte; theirs is not the operator's logbook.
        for name in ("aiohttp.access", "asyncio", "pydicom", "pynetdicom", "PIL"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self._listener.start()

    def set_level(self, level: LogLevel) -> None:
        """Say more or less from now on."""
        logging.getLogger().setLevel(level.upper())

    def close(self) -> None:
        """Write what is queued and let the root logger go."""
        logging.getLogger().removeHandler(self._handler)
        self._listener.stop()
        for output in self._outputs:
            output.close()
