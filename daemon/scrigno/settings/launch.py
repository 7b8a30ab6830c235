# SPDX-License-Identifier: Apache-2.0
"""How other systems may log people in, and what links for guests may be."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSettings:
    """Which ways lead in by an address. A password in an address is seen by whoever sees it."""

    password_in_address: bool = False
    one_time_codes: bool = True
    tokens: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareSettings:
    """Links for guests."""

    enabled: bool = True
    longest_days: int = 90
    secret_required: bool = False
