# SPDX-License-Identifier: Apache-2.0
"""Verification SCP (PS3.4 annex A)."""

from scrigno.dicomnet.service import Operation

from .statuses import Status


async def serve_echo(operation: Operation) -> None:
    """Answer a C-ECHO: the node is there and talks DICOM."""
    await operation.respond(Status.SUCCESS)
