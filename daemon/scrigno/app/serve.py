# SPDX-License-Identifier: Apache-2.0
"""The daemon from its first line of log to its last."""

import asyncio
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Final

from scrigno import __version__
from scrigno.core.clock import SystemClock
from scrigno.core.errors import CommandError, ConfigError, ScrignoError
from scrigno.host.process import begin_anew
from scrigno.settings.boot import load_config
from scrigno.settings.schema import BootConfig

from .commands import Commands
from .control import ControlServer
from .last_run import LastRun
from .lock import StateLock
from .logs import Logs
from .notify import keep_alive, notify
from .parts import Parts, start
from .starter import Starter

log = logging.getLogger(__name__)

DONE: Final = 0
FAILED: Final = 1
WRONG_USE: Final = 2
ANEW: Final = -1  # never seen outside: the process begins anew


def serve(config_path: Path, *, welcome: bool) -> int:
    """Run the daemon until SIGTERM or SIGINT; returns the exit code."""
    try:
        config = load_config(config_path)
        _make_private(config.state_dir)
        with StateLock(config.state_dir):
            logs = Logs(config.log)
            try:
                code = asyncio.run(_run(config, logs, config_path if welcome else None))
            finally:
                logs.close()
        if code == ANEW:
            # the same process, so that whoever supervises it, or waits for it, sees no end
            begin_anew()
        return code
    except ConfigError as error:
        sys.stderr.write(f"scrigno: {error.sentence()}\n")
        return WRONG_USE
    except ScrignoError as error:
        sys.stderr.write(f"scrigno: {error.sentence()}\n")
        return FAILED


def _make_private(state_dir: Path) -> None:
    """Make the state directory, for its owner only; raises CommandError."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        state_dir.chmod(0o700)
    except OSError as error:
        raise CommandError(
            f"The state directory {state_dir} cannot be used: {error.strerror}.",
            next_step="Make it for the user of the daemon, or name another one.",
        ) from error


async def _run(config: BootConfig, logs: Logs, welcome_for: Path | None) -> int:
    stop, anew = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def begin_anew() -> None:
        anew.set()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    log.info("scrigno %s starts, process %d", __version__, os.getpid())
    starter = Starter()
    last_run = LastRun(config.state_dir, SystemClock())
    crashed = await asyncio.to_thread(last_run.begin)
    in_order = False
    try:
        parts = await start(config, logs, starter)
        if crashed:
            parts.health.book.raise_once("service-crashed", values={"reason": crashed})
        control = ControlServer(config.state_dir, Commands(parts).table())
        starter.on_stop("control socket", control.close)
        await control.start()
        parts.service.on_restart = begin_anew
        notify("READY=1")
        log.info("scrigno is ready")
        if welcome_for is not None:
            sys.stdout.write(await _welcome(parts))
            sys.stdout.flush()
        alive = asyncio.create_task(keep_alive())
        await stop.wait()
        alive.cancel()
        notify("STOPPING=1")
        log.info("scrigno stops")
        parts.facts.stopping = True
        in_order = True
    except ScrignoError:
        in_order = True  # what keeps it from starting is told, and nothing crashed
        raise
    finally:
        await starter.stop()
        if in_order:
            await asyncio.to_thread(last_run.end)
    log.info("scrigno has stopped")
    return ANEW if anew.is_set() else DONE


async def _welcome(parts: Parts) -> str:
    """Return how to reach the box, for the person who just started it."""
    host = socket.gethostname()
    provider = parts.node.statuses()[0] if parts.node.statuses() else None
    lines = ["", "Scrigno is ready."]
    lines += [f"  pages       http://{host}:{port}/viewer/" for port in parts.web_ports]
    lines += [f"              http://localhost:{port}/viewer/" for port in parts.web_ports]
    if not parts.access.claimed:
        lines.append(f"  setup code  {await parts.access.setup_code()}   (claims the box, once)")
    if provider is not None:
        lines += [
            f"  DICOM       AE title {provider.ae_title}, port {provider.port}",
            f"  send        storescu -aec {provider.ae_title} localhost {provider.port}"
            " +sd +r FOLDER",
        ]
    return "\n".join([*lines, "  stop        Ctrl-C", ""]) + "\n"
