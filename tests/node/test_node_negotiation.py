# SPDX-License-Identifier: Apache-2.0
"""What of a proposal is accepted."""

import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import sop_class

from scrigno.dicomnet.service import (
    AssociationRequest,
    PeerAddress,
    ProposedContext,
    UserIdentity,
)
from scrigno.node.negotiation import QueryOptions, Service, negotiate, service_of

CT = "1.2.840.10008.5.1.4.1.1.2"
STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"


def request(*contexts: tuple[str, tuple[str, ...]], **rest: object) -> AssociationRequest:
    return AssociationRequest(
        called_ae="SCRIGNO",
        calling_ae="PEER",
        peer=PeerAddress("127.0.0.1", 1),
        contexts=tuple(
            ProposedContext(2 * number + 1, abstract, syntaxes)
            for number, (abstract, syntaxes) in enumerate(contexts)
        ),
        max_pdu=16384,
        **rest,  # type: ignore[arg-type]
    )


@pytest.mark.spec("DN-4")
def test_every_storage_class_of_pynetdicom_is_stored() -> None:
    for uid in sop_class._STORAGE_CLASSES.values():
        assert service_of(uid) is Service.STORAGE


@pytest.mark.spec("DN-4")
def test_retired_private_and_unheard_of_classes_are_taken_for_storage() -> None:
    assert service_of("1.2.840.10008.5.1.4.1.1.5") is Service.STORAGE  # NM Image Storage (Retired)
    assert service_of("1.3.46.670589.5.0.1.1") in (Service.UNKNOWN, Service.STORAGE)
    assert service_of("1.2.276.0.99999.1.2") is Service.UNKNOWN
    assert service_of("1.2.840.10008.5.1.4.1.1.9999") is Service.UNKNOWN


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.840.10008.5.1.1.9",  # Basic Grayscale Print
        "1.2.840.10008.1.3.10",  # Media Storage Directory
        "",
        "not a uid",
    ],
)
def test_what_is_not_served_is_refused_as_abstract_syntax(uid: str) -> None:
    answer = negotiate(request((uid, (ImplicitVRLittleEndian,))))
    assert answer.contexts[1] == 3


@pytest.mark.spec("DN-4")
def test_storage_takes_the_first_transfer_syntax_whatever_it_is() -> None:
    private = "1.2.840.113619.5.2"
    answer = negotiate(
        request(
            (CT, (JPEG_LOSSLESS, ImplicitVRLittleEndian)),
            (CT, (private,)),
            (CT, (ImplicitVRLittleEndian, ExplicitVRLittleEndian)),
            (CT, ("rubbish",)),
            (CT, ()),
        )
    )
    assert list(answer.contexts.values()) == [JPEG_LOSSLESS, private, ImplicitVRLittleEndian, 4, 4]


def test_identifiers_are_taken_in_syntaxes_that_are_read_only() -> None:
    answer = negotiate(
        request(
            (STUDY_FIND, (JPEG_LOSSLESS, ExplicitVRLittleEndian)), (STUDY_FIND, (JPEG_LOSSLESS,))
        )
    )
    assert list(answer.contexts.values()) == [ExplicitVRLittleEndian, 4]


@pytest.mark.spec("DN-6")
def test_a_peer_may_take_the_scp_role_of_storage_only() -> None:
    answer = negotiate(
        request(
            (CT, (ImplicitVRLittleEndian, ExplicitVRLittleEndian)),
            (STUDY_FIND, (ImplicitVRLittleEndian,)),
            roles={CT: (False, True), STUDY_FIND: (True, True)},
        )
    )
    assert answer.roles == {CT: (False, True), STUDY_FIND: (True, False)}
    assert answer.contexts[1] == ExplicitVRLittleEndian


@pytest.mark.spec("DN-5")
def test_relational_date_time_and_fuzzy_are_agreed_when_proposed() -> None:
    answer = negotiate(
        request(
            (STUDY_FIND, (ImplicitVRLittleEndian,)),
            extended={
                STUDY_FIND: b"\x01\x00\x01\x01\x01",
                STUDY_MOVE: b"\x01",
                CT: b"\x02\x00\x00\x00\x00",
                "1.2.840.10008.1.1": b"\x01",
            },
        )
    )
    assert answer.extended[STUDY_FIND] == b"\x01\x00\x01\x00\x00"
    assert answer.extended[STUDY_MOVE] == b"\x01"
    assert answer.extended[CT] == bytes((2, 0, 3, 0, 1))
    assert "1.2.840.10008.1.1" not in answer.extended
    options = QueryOptions.parse(answer.extended[STUDY_FIND])
    assert options == QueryOptions(relational=True, combined_date_time=False, fuzzy_names=True)
    assert QueryOptions.parse(b"") == QueryOptions()


def test_the_window_is_bounded_and_the_identity_answered_when_asked() -> None:
    assert negotiate(request()).async_ops is None
    assert negotiate(request(async_ops=(0, 0))).async_ops == (16, 1)
    assert negotiate(request(async_ops=(4, 4))).async_ops == (4, 1)
    name = UserIdentity(kind=1, primary=b"someone", response_requested=True)
    ticket = UserIdentity(kind=3, primary=b"ticket", response_requested=True)
    silent = UserIdentity(kind=1, primary=b"someone")
    assert negotiate(request(user_identity=name)).user_identity_response == b""
    assert negotiate(request(user_identity=ticket)).user_identity_response is None
    assert negotiate(request(user_identity=silent)).user_identity_response is None
