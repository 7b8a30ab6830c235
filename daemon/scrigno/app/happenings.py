# SPDX-License-Identifier: Apache-2.0
"""What happens once, told to the alert book: refused nodes, changed settings, failed log-ins."""

from typing import Final

from scrigno.access.access import Access
from scrigno.access.accounts import Account
from scrigno.core.events import AssociationRefused, EventBus, SettingsChanged
from scrigno.health.book import AlertBook
from scrigno.settings.peers import FIRST_CONTACT
from scrigno.settings.store import SettingsStore

# codes of node.admission
_LIMITS: Final = frozenset(
    {"dicom-connections-reached", "peer-connections-reached", "too-many-connections"}
)
_UNKNOWN: Final = frozenset({"calling-ae-unknown", "called-ae-unknown", "peer-blocked"})
LOGIN_FAILURES_TOLD: Final = 5  # of one address in a row; fewer are mistyped passwords
MOST_ADDRESSES: Final = 1000


class Happenings:
    """Turns what is heard into events of the book. Loop thread only."""

    def __init__(self, book: AlertBook, settings: SettingsStore) -> None:
        """Hold the book; `listen` ties it to what happens."""
        self._book = book
        self._settings = settings
        self._failures: dict[str, int] = {}

    def listen(self, bus: EventBus, access: Access) -> None:
        """Hear from now on."""
        bus.subscribe(AssociationRefused, self._refused)
        bus.subscribe(SettingsChanged, self._settings_changed)
        access.entrance.on_login = self._login
        access.entrance.on_session = self._session

    def _refused(self, event: AssociationRefused) -> None:
        if event.code in _UNKNOWN:
            self._book.raise_once("unknown-node", event.calling_ae, {"host": event.host})
        elif event.code in _LIMITS:
            limit = self._settings.current.limits.max_dicom_connections
            self._book.raise_once("association-limit", values={"limit": limit or event.reason})

    def _settings_changed(self, event: SettingsChanged) -> None:
        if self._settings.author == FIRST_CONTACT:
            return  # a node that registered itself is told by the inbox and the connections page
        values = {"revision": event.revision}
        self._book.raise_once("settings-changed", self._settings.author, values)

    def _session(self, account: Account, address: str) -> None:
        if account.administers:
            self._book.raise_once("admin-login", account.name, {"host": address})

    def _login(self, address: str, *, right: bool) -> None:
        if right:
            self._failures.pop(address, None)
            return
        if len(self._failures) >= MOST_ADDRESSES:
            self._failures.clear()
        count = self._failures[address] = self._failures.get(address, 0) + 1
        if count >= LOGIN_FAILURES_TOLD:
            self._book.raise_once("login-failures", address, {"count": count})
