# SPDX-License-Identifier: Apache-2.0
"""The facts a figure means nothing without: processor, memory, disk, load, versions."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psutil

from .process import output_of

if TYPE_CHECKING:
    from pathlib import Path


def facts(place: Path) -> dict[str, Any]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": output_of(["git", "describe", "--always", "--dirty"]).strip(),
        "processors": os.cpu_count(),
        "processor": _processor(),
        "memory_mb": psutil.virtual_memory().total >> 20,
        "kernel": platform.release(),
        "filesystem": output_of(["stat", "-f", "-c", "%T", str(place)]).strip(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
    }


def words(seen: dict[str, Any]) -> str:
    return (
        f"{seen['at']}, commit {seen['commit']}, {seen['processors']} x {seen['processor']}, "
        f"{seen['memory_mb']} MB, {seen['filesystem']}, Linux {seen['kernel']}, "
        f"load before the run {seen['load_before']}"
    )


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
