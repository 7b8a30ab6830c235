# SPDX-License-Identifier: Apache-2.0
"""The client's end of the control socket: one request, lines of progress, one answer."""

import json
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from scrigno.core.errors import CommandError, ScrignoError

SOCKET_NAME: Final = "control.sock"
CONNECT_TIMEOUT_S: Final = 5.0


class NotRunning(ScrignoError):
    """No daemon answers on this state directory."""

    code = "daemon-not-running"


class RefusedByDaemon(ScrignoError):
    """The daemon answered with an error; its own code is in `remote_code`."""

    code = "refused-by-daemon"

    def __init__(self, remote_code: str, reason: str, next_step: str) -> None:
        """Keep the daemon's own words."""
        super().__init__(reason, next_step=next_step)
        self.remote_code = remote_code


def connect(state_dir: Path) -> socket.socket:
    """Return a connected control socket; raises NotRunning."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(CONNECT_TIMEOUT_S)
    try:
        # By way of the folder's descriptor: a socket's path is limited to 107 bytes (unix(7)).
        folder = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        client.close()
        raise NotRunning(
            f"There is no state directory {state_dir}: {error.strerror}.",
            next_step="Start the box first: scrigno serve --config FILE",
        ) from error
    try:
        client.connect(f"/proc/self/fd/{folder}/{SOCKET_NAME}")
    except PermissionError as error:
        client.close()
        raise CommandError(
            f"The control socket in {state_dir} belongs to another user.",
            next_step="Run the command as root or as the user of the daemon.",
        ) from error
    except OSError as error:
        client.close()
        raise NotRunning(
            f"No daemon is running on {state_dir}.",
            next_step="Start the box first: scrigno serve --config FILE",
        ) from error
    finally:
        os.close(folder)
    client.settimeout(None)  # a verify may take hours; progress lines show that it lives
    return client


def call(
    state_dir: Path,
    command: str,
    arguments: Mapping[str, Any],
    progress: Callable[[Mapping[str, Any]], None] = lambda _step: None,
) -> Any:
    """Send one command and return its result; raises NotRunning, RefusedByDaemon, CommandError."""
    with connect(state_dir) as client, client.makefile("rwb") as stream:
        request = json.dumps({"command": command, "arguments": dict(arguments)})
        stream.write(request.encode() + b"\n")
        stream.flush()
        for line in stream:
            message = json.loads(line)
            if "progress" in message:
                progress(message["progress"])
            elif "error" in message:
                error = message["error"]
                raise RefusedByDaemon(error["code"], error["reason"], error["next_step"])
            else:
                return message["result"]
    raise CommandError(
        f"The daemon ended before it answered {command}.",
        next_step="Look into its log, then ask again: the command can be repeated safely.",
    )
