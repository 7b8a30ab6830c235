# SPDX-License-Identifier: Apache-2.0
"""Checking a volume that was pulled out of the box: only the disk is needed, no daemon."""

import argparse
import sys
from collections import Counter
from typing import Final

from scrigno.volumes.lone import Finding, Found, verify_lone

from . import care_words as words
from .asking import DONE, FAILED, progress_line, show

BAD: Final = frozenset({Finding.CHANGED, Finding.UNREADABLE, Finding.MISSING})
MOST_NAMED: Final = 10_000
SHOW_EVERY: Final = 100  # files


def verify(options: argparse.Namespace) -> int:
    """Read every file below `--path` and compare it with the digest beside it."""
    under = f"studies/{options.study}" if options.study else ""
    counts: Counter[Finding] = Counter()
    bad: list[Found] = []
    size = 0
    for found in verify_lone(options.path, under=under):
        counts[found.finding] += 1
        size += found.size
        if found.finding in BAD and len(bad) < MOST_NAMED:
            bad.append(found)
        if counts.total() % SHOW_EVERY == 0 and sys.stderr.isatty():
            progress_line({"done": counts.total(), "what": "files"})
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")
    answer = {
        "path": str(options.path),
        "counts": {finding.value: counts[finding] for finding in Finding},
        "bytes": size,
        "bad": [
            {"path": str(each.path), "finding": each.finding, "reason": each.reason} for each in bad
        ],
    }
    show(options, answer, words.lone)
    return FAILED if any(counts[finding] for finding in BAD) else DONE
