# SPDX-License-Identifier: Apache-2.0
"""Patient texts that must never appear in a log by accident."""

from typing_extensions import override


class Phi(str):
    """A text about a patient: usable as text, masked by `repr`, so `%r` and dataclasses hide it."""

    __slots__ = ()

    @override
    def __repr__(self) -> str:
        return "<phi>" if self else "''"
