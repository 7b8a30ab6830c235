# SPDX-License-Identifier: Apache-2.0
"""Ports for servers of the tests."""

import random
import socket

# Below the range from which the kernel takes the ports of outgoing connections
# (ip_local_port_range, 32768 and up): a port found free there may be taken a moment later.
LOWEST, HIGHEST = 15_000, 32_000


def free_port() -> int:
    """Return a port on which nobody listens and which no outgoing connection is given."""
    while True:
        port = random.randint(LOWEST, HIGHEST)
        with socket.socket() as probe:
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                continue
            return port
