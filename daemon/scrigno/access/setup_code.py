# SPDX-License-Identifier: Apache-2.0
"""The one-time setup code: only who can read this machine's disk or console may claim the box.

ASVS 5.0 6.4.1: random (50 bits), expires after 24 h, single purpose, 10 tries, then made anew.
"""

import hmac
import json
import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from scrigno.core.clock import Clock
from scrigno.host.files import write_durably

FILE_NAME: Final = "setup-code"
ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: no I, L, O, U
LENGTH: Final = 10
LIFETIME: Final = timedelta(hours=24)
TRIES: Final = 10


@dataclass(frozen=True, slots=True)
class _Kept:
    code: str
    made_at: datetime
    tries: int


class SetupCode:
    """The code in `<state_dir>/setup-code`, readable by the daemon's user only. Blocking."""

    def __init__(self, state_dir: Path, *, clock: Clock) -> None:
        """Touch nothing yet."""
        self._path = state_dir / FILE_NAME
        self._clock = clock

    def current(self) -> str:
        """Return the code as people read it (XXXXX-XXXXX), made anew when it is used up."""
        code = self._valid().code
        return f"{code[:5]}-{code[5:]}"

    def matches(self, text: str) -> bool:
        """Tell whether `text` is the code; a wrong one counts as a try, durably."""
        kept = self._valid()
        if hmac.compare_digest(_plain(text).encode(), kept.code.encode()):
            return True
        if kept.tries + 1 >= TRIES:
            self._make()
        else:
            self._write(replace(kept, tries=kept.tries + 1))
        return False

    def remove(self) -> None:
        """Forget the code; the box is claimed."""
        self._path.unlink(missing_ok=True)

    def _valid(self) -> _Kept:
        kept = self._read()
        now = self._clock.now()
        if kept is None or not timedelta(0) <= now - kept.made_at <= LIFETIME:
            return self._make()
        return kept

    def _read(self) -> _Kept | None:
        try:
            found = json.loads(self._path.read_text(encoding="ascii"))
            made_at = datetime.fromisoformat(found["made_at"])
            kept = _Kept(str(found["code"]), made_at, int(found["tries"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None  # a torn or foreign file: a new code harms nobody
        return kept if len(kept.code) == LENGTH and made_at.tzinfo else None

    def _make(self) -> _Kept:
        code = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
        return self._write(_Kept(code, self._clock.now(), 0))

    def _write(self, kept: _Kept) -> _Kept:
        content = {"code": kept.code, "made_at": kept.made_at.isoformat(), "tries": kept.tries}
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(self._path, json.dumps(content).encode("ascii"))
        return kept


def _plain(text: str) -> str:
    """Return what was typed without separators, confusable letters as their digits."""
    letters = "".join(text.upper().split()).replace("-", "")
    return letters.translate(str.maketrans("OIL", "011"))
