# SPDX-License-Identifier: Apache-2.0
"""Named places where a test can make the process die at once, as a power cut would.

Only the environment variable SCRIGNO_FAILPOINT, read at start, arms one; without it a call is one
comparison.
"""

import os
from typing import Final

EXIT_CODE: Final = 77
_armed: Final = os.environ.get("SCRIGNO_FAILPOINT", "")


def hit(name: str) -> None:
    """End the process without any clean-up when `name` is the armed place."""
    if _armed == name:
        os._exit(EXIT_CODE)
