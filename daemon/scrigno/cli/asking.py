# SPDX-License-Identifier: Apache-2.0
"""What every command does: ask the daemon, show its answer, complain in words."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from scrigno.settings.boot import load_config

from . import words
from .client import call

DONE: Final = 0
FAILED: Final = 1
WRONG_USE: Final = 2


def complain(sentence: str) -> None:
    """Say on standard error what went wrong."""
    sys.stderr.write(f"scrigno: {sentence}\n")


def say(text: str) -> None:
    """Print text, with one new line at its end."""
    sys.stdout.write(text if text.endswith("\n") else f"{text}\n")


def _state_dir(options: argparse.Namespace) -> Path:
    config: Path = options.config
    return load_config(config).state_dir


def ask(
    options: argparse.Namespace, command: str, *, progress: bool = False, **arguments: Any
) -> Any:
    """Return the daemon's answer; raises ScrignoError."""
    on_progress = progress_line if progress and sys.stderr.isatty() else lambda _step: None
    try:
        return call(_state_dir(options), command, arguments, on_progress)
    finally:
        if progress and sys.stderr.isatty():
            sys.stderr.write("\r\033[K")


def progress_line(step: Mapping[str, Any]) -> None:
    """Show on the terminal how far it is, in the same line as before."""
    sys.stderr.write(f"\r\033[K{words.progress(step)}")
    sys.stderr.flush()


def show(options: argparse.Namespace, result: Any, text: Callable[[Any], str]) -> None:
    """Print an answer as JSON when that was asked for, else in words."""
    say(json.dumps(result, indent=2, ensure_ascii=False) if options.json else text(result))
