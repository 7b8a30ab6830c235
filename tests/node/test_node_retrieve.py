# SPDX-License-Identifier: Apache-2.0
"""How a retrieval is put together: contexts within 128, destinations with an address."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest

from running_node import RunningNode
from scrigno.catalogue.records import StoredInstance
from scrigno.node.admission import Admission
from scrigno.node.destinations import Destinations, UnknownDestination
from scrigno.node.retrieve import MAX_CONTEXTS, proposal
from scrigno.node.suboperations import batches
from scrigno.settings.schema import ALL_RIGHTS, Peer

Opener = Callable[..., Awaitable[RunningNode]]

EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
JPEG = "1.2.840.10008.1.2.4.70"


def stored(sop_class: str, syntax: str, number: int = 0) -> StoredInstance:
    return StoredInstance(
        study_instance_uid="1.2",
        series_instance_uid="1.2.3",
        sop_instance_uid=f"1.2.3.{number}",
        sop_class_uid=sop_class,
        transfer_syntax_uid=syntax,
        key="",
        digest="",
        size=0,
        instance_number="",
        number_of_frames=None,
        rows=None,
        columns=None,
        received_at=datetime.now(UTC),
        staged_as=None,
        copies=(),
    )


@pytest.mark.spec("DN-6")
def test_each_stored_pair_is_proposed_alone_and_each_class_once_more_for_transcoding() -> None:
    instances = [stored("1.1", JPEG), stored("1.1", EXPLICIT), stored("1.1", JPEG, 2)]
    assert proposal(instances) == [("1.1", (JPEG,)), ("1.1", (EXPLICIT,)), ("1.1", (IMPLICIT,))]
    assert proposal([stored("1.1", JPEG)]) == [("1.1", (JPEG,)), ("1.1", (EXPLICIT, IMPLICIT))]


@pytest.mark.spec("DN-6")
def test_a_study_of_too_many_kinds_goes_over_several_associations() -> None:
    instances = [
        stored(f"1.1.{number % 90}", syntax, number)
        for number in range(180)
        for syntax in (JPEG, EXPLICIT)
    ]
    made = batches(instances, MAX_CONTEXTS)
    assert len(made) > 1
    assert all(len(proposal(batch)) <= MAX_CONTEXTS for batch in made)
    assert sorted(map(id, (each for batch in made for each in batch))) == sorted(map(id, instances))
    assert len(batches(instances[:10], MAX_CONTEXTS)) == 1


@pytest.mark.spec("DN-2", "DN-6")
async def test_a_node_known_for_a_network_is_reached_only_when_it_asks_itself(
    open_box: Opener,
) -> None:
    anywhere = Peer(name="tablets", ae_title="TABLET", host="192.0.2.0/24", port=11112)
    box = await open_box(peers=[anywhere])
    found = Destinations(box.settings)
    requester = Admission(
        provider="Scrigno",
        called_ae="SCRIGNO",
        calling_ae="TABLET",
        host="192.0.2.17",
        peer_name="tablets",
        rights=ALL_RIGHTS,
        hold=None,
    )
    assert found.find("TABLET", requester).host == "192.0.2.17"
    stranger = Admission(
        provider="Scrigno",
        called_ae="SCRIGNO",
        calling_ae="OTHER",
        host="198.51.100.1",
        peer_name="other",
        rights=ALL_RIGHTS,
        hold=None,
    )
    with pytest.raises(UnknownDestination):
        found.find("TABLET", stranger)
