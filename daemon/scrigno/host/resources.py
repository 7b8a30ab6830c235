# SPDX-License-Identifier: Apache-2.0
"""Memory, load and file descriptors."""

import os
import resource
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What the machine and this process have in use."""

    memory_used_percent: float  # of all there is, without what the kernel gives back when asked
    load: float  # the mean of five minutes, so that one busy moment says nothing
    processors: int
    descriptors: int  # of this process
    descriptor_limit: int


def read_resources() -> Resources:
    """Return what is in use now. Blocking, though only for procfs."""
    return Resources(
        memory_used_percent=psutil.virtual_memory().percent,
        load=os.getloadavg()[1],
        processors=os.cpu_count() or 1,
        descriptors=psutil.Process().num_fds(),
        descriptor_limit=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    )
