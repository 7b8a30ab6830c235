# SPDX-License-Identifier: Apache-2.0
"""Query and retrieve at other nodes, composed."""

from collections.abc import Mapping
from typing import Final

from scrigno.archive.ingest import Ingest
from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.query import Level
from scrigno.jobs.jobs import Jobs
from scrigno.node.remote import own_ae_title
from scrigno.node.remote_query import RemoteQuery, require_askable
from scrigno.node.remote_retrieve import RetrieveRunner
from scrigno.node.send_queue import usable_peer
from scrigno.settings.store import SettingsStore
from scrigno.web.remote_answers import RemoteNodeAnswer, RemoteRowAnswer

from .stores import Common

TIMEOUT_S: Final = 60.0


def make_remote(
    settings: SettingsStore, catalogue: Catalogue, ingest: Ingest, jobs: Jobs, common: Common
) -> "RemoteDesk":
    """Make the desk, and let jobs know who fetches; before `start_all`."""

    def ae_title() -> str:
        return own_ae_title(settings)

    jobs.register(
        RetrieveRunner(
            settings=settings,
            ingest=ingest,
            catalogue=catalogue,
            ae_title=ae_title,
            bus=common.bus,
            counters=common.counters,
        )
    )
    query = RemoteQuery(
        ae_title=ae_title,
        default_character_set=lambda: settings.current.default_character_set,
        clock=common.clock,
        counters=common.counters,
    )
    return RemoteDesk(query, settings)


class RemoteDesk:
    """Asks other nodes, as the API speaks of it."""

    def __init__(self, query: RemoteQuery, settings: SettingsStore) -> None:
        """Ask by `query` the nodes of `settings`."""
        self._query = query
        self._settings = settings

    async def find(
        self, node: str, level: Level, keys: Mapping[str, str], *, limit: int
    ) -> RemoteNodeAnswer:
        """Ask one node; never raises for what it does, `in_archive` is left false."""
        peer = usable_peer(self._settings, node)
        found = await self._query.find(peer, level, keys, limit=limit, timeout_s=TIMEOUT_S)
        return RemoteNodeAnswer(
            node=node,
            rows=[RemoteRowAnswer(values=dict(each), in_archive=False) for each in found.rows],
            complete=found.complete,
            code=found.code,
            detail=found.words,
            seconds=round(found.duration_s, 3),
        )

    def check(self, level: Level, keys: Mapping[str, str]) -> None:
        """Raise QueryRefused for keys that the level has not."""
        require_askable(level, keys)

    def require_node(self, name: str) -> None:
        """Raise UnusableDestination for a node that cannot be asked."""
        usable_peer(self._settings, name)
