# SPDX-License-Identifier: Apache-2.0
"""Association PDUs and command sets as bytes, against pynetdicom and against golden bytes."""

import random
import struct
from io import BytesIO

import pytest
from dicomnet_kit import CT, EXPLICIT, IMPLICIT, STUDY_ROOT_FIND, VERIFICATION, request_pdu
from pynetdicom import dimse_messages, dimse_primitives, pdu_primitives
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.presentation import PresentationContext

from scrigno.core.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from scrigno.dicomnet import commandset, dimse
from scrigno.dicomnet.errors import UnreadablePdu
from scrigno.dicomnet.limits import Limits
from scrigno.dicomnet.pdu import (
    RELEASE_RP,
    RELEASE_RQ,
    decode_abort,
    decode_associate_ac,
    decode_associate_rj,
    decode_associate_rq,
    encode_abort,
    encode_associate_ac,
    encode_associate_rj,
)
from scrigno.dicomnet.service import (
    Acceptance,
    Command,
    PeerAddress,
    Rejection,
    Response,
    UserIdentity,
)

HERE = PeerAddress("192.0.2.1", 104)


def test_a_request_of_pynetdicom_is_read_in_full() -> None:
    primitive = pdu_primitives.A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "MODALITY", "ARCHIVE"
    context = PresentationContext()
    context.context_id, context.abstract_syntax = 77, CT
    context.transfer_syntax = [EXPLICIT, IMPLICIT]
    primitive.presentation_context_definition_list = [context]
    maximum = pdu_primitives.MaximumLengthNotification()
    maximum.maximum_length_received = 31682
    class_uid = pdu_primitives.ImplementationClassUIDNotification()
    class_uid.implementation_class_uid = "1.2.3.4.5"
    version = pdu_primitives.ImplementationVersionNameNotification()
    version.implementation_version_name = "MODALITY_1"
    window = pdu_primitives.AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked, window.maximum_number_operations_performed = 7, 2
    role = pdu_primitives.SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid, role.scu_role, role.scp_role = CT, False, True
    extended = pdu_primitives.SOPClassExtendedNegotiation()
    extended.sop_class_uid = STUDY_ROOT_FIND
    extended.service_class_application_information = b"\1\0\1"
    common = pdu_primitives.SOPClassCommonExtendedNegotiation()
    common.sop_class_uid, common.service_class_uid = CT, "1.2.840.10008.4.2"
    common.related_general_sop_class_identification = [VERIFICATION]
    identity = pdu_primitives.UserIdentityNegotiation()
    identity.user_identity_type, identity.positive_response_requested = 2, True
    identity.primary_field, identity.secondary_field = b"anna", b"secret"
    primitive.user_information = [
        *(maximum, class_uid, version, window, role, extended, common, identity)
    ]
    pdu = A_ASSOCIATE_RQ(primitive).encode()

    received = decode_associate_rq(pdu[6:], peer=HERE, limits=Limits(), tls=True)
    request = received.request
    assert (received.version, received.application_context) == (1, "1.2.840.10008.3.1.1.1")
    assert (request.calling_ae, request.called_ae) == ("MODALITY", "ARCHIVE")
    assert [(c.context_id, c.abstract_syntax, c.transfer_syntaxes) for c in request.contexts] == [
        (77, CT, (EXPLICIT, IMPLICIT))
    ]
    assert request.max_pdu == 31682
    assert request.implementation_class_uid == "1.2.3.4.5"
    assert request.implementation_version == "MODALITY_1"
    assert request.async_ops == (7, 2)
    assert request.roles == {CT: (False, True)}
    assert request.extended == {STUDY_ROOT_FIND: b"\1\0\1"}
    assert request.common_extended == {CT: ("1.2.840.10008.4.2", (VERIFICATION,))}
    assert request.user_identity == UserIdentity(2, b"anna", b"secret", response_requested=True)
    assert (request.peer, request.tls) == (HERE, True)


def test_our_request_is_read_by_pynetdicom_and_by_ourselves() -> None:
    pdu = request_pdu(
        roles={CT: (True, True)},
        async_ops=(4, 0),
        extended={STUDY_ROOT_FIND: b"\1"},
        common_extended={CT: ("1.2.840.10008.4.2", (VERIFICATION, STUDY_ROOT_FIND))},
        user_identity=UserIdentity(1, b"anna"),
    )
    theirs = A_ASSOCIATE_RQ()
    theirs.decode(pdu)
    assert theirs.encode() == pdu
    user = theirs.user_information
    assert user.maximum_length == 16384
    assert user.implementation_class_uid == IMPLEMENTATION_CLASS_UID
    assert user.implementation_version_name == IMPLEMENTATION_VERSION_NAME
    ours = decode_associate_rq(pdu[6:], peer=HERE, limits=Limits()).request
    assert ours.roles == {CT: (True, True)}
    assert ours.async_ops == (4, 0)
    assert ours.common_extended == {CT: ("1.2.840.10008.4.2", (VERIFICATION, STUDY_ROOT_FIND))}
    assert ours.user_identity == UserIdentity(1, b"anna")


def test_our_acceptance_is_read_by_pynetdicom_and_by_ourselves() -> None:
    asked = decode_associate_rq(
        request_pdu(
            roles={CT: (True, True)},
            async_ops=(4, 0),
            extended={STUDY_ROOT_FIND: b"\1"},
            user_identity=UserIdentity(1, b"anna", response_requested=True),
        )[6:],
        peer=HERE,
        limits=Limits(),
    )
    pdu = encode_associate_ac(
        asked,
        Acceptance(
            contexts={1: 3, 3: EXPLICIT, 5: EXPLICIT},
            roles={CT: (True, False), VERIFICATION: (True, True)},
            extended={STUDY_ROOT_FIND: b"\0", CT: b"?"},
            async_ops=(2, 1),
            user_identity_response=b"welcome",
        ),
        max_pdu=262144,
    )
    theirs = A_ASSOCIATE_AC()
    theirs.decode(pdu)
    assert [(c.context_id, c.result) for c in theirs.presentation_context] == [(1, 3), (3, 0)]
    assert theirs.user_information.maximum_length == 262144
    assert pdu[10:42] == b"SCRIGNO         PEER            "
    ours = decode_associate_ac(pdu[6:])
    assert ours.acceptance == Acceptance(
        contexts={1: 3, 3: EXPLICIT},
        roles={CT: (True, False)},
        extended={STUDY_ROOT_FIND: b"\0"},
        async_ops=(2, 1),
        user_identity_response=b"welcome",
    )
    assert ours.max_pdu == 262144


def test_what_was_not_proposed_is_not_in_the_acceptance() -> None:
    asked = decode_associate_rq(request_pdu()[6:], peer=HERE, limits=Limits())
    pdu = encode_associate_ac(
        asked,
        Acceptance(
            contexts={1: IMPLICIT},
            roles={CT: (True, True)},
            async_ops=(1, 1),
            user_identity_response=b"welcome",
        ),
        max_pdu=262144,
    )
    ours = decode_associate_ac(pdu[6:]).acceptance
    assert ours == Acceptance(contexts={1: IMPLICIT, 3: 1})


def test_the_small_pdus_are_those_of_pynetdicom() -> None:
    rejection = A_ASSOCIATE_RJ()
    rejection.result, rejection.source, rejection.reason_diagnostic = 2, 3, 2
    assert encode_associate_rj(Rejection(2, 3, 2)) == rejection.encode()
    assert decode_associate_rj(rejection.encode()[6:]) == Rejection(2, 3, 2, "local limit exceeded")
    abort = A_ABORT_RQ()
    abort.source, abort.reason_diagnostic = 2, 6
    assert encode_abort(2, 6) == abort.encode()
    assert decode_abort(abort.encode()[6:]) == (2, 6)
    assert encode_abort(0, 6) == bytes.fromhex("07000000000400000000")
    assert bytes.fromhex("05000000000400000000") == RELEASE_RQ
    assert bytes.fromhex("06000000000400000000") == RELEASE_RP


def test_more_than_128_contexts_or_an_even_or_repeated_id_are_refused() -> None:
    many = request_pdu([(VERIFICATION, [IMPLICIT])] * 128)
    assert len(decode_associate_rq(many[6:], peer=HERE, limits=Limits()).request.contexts) == 128
    with pytest.raises(UnreadablePdu, match="more than 127"):
        decode_associate_rq(many[6:], peer=HERE, limits=Limits(max_contexts=127))
    two = request_pdu([(VERIFICATION, [IMPLICIT]), (CT, [IMPLICIT])])
    item = two.index(b"\x20\0", 80)
    second = two.index(b"\x20\0", item + 8) + 4
    for context_id in (1, 4):
        broken = two[:second] + bytes([context_id]) + two[second + 1 :]
        with pytest.raises(UnreadablePdu, match="twice or even"):
            decode_associate_rq(broken[6:], peer=HERE, limits=Limits())


@pytest.mark.spec("DN-11")
def test_no_mutation_of_a_request_raises_anything_but_unreadable() -> None:
    whole = request_pdu(
        roles={CT: (True, True)},
        async_ops=(4, 0),
        extended={STUDY_ROOT_FIND: b"\1"},
        common_extended={CT: ("1.2.840.10008.4.2", (VERIFICATION, STUDY_ROOT_FIND))},
        user_identity=UserIdentity(2, b"anna", b"secret"),
    )[6:]
    asked = decode_associate_rq(whole, peer=HERE, limits=Limits())
    answer = encode_associate_ac(asked, Acceptance(contexts={1: IMPLICIT}), max_pdu=16384)[6:]
    dice = random.Random(38)
    read = 0
    for body, decode in (
        (whole, lambda b: decode_associate_rq(b, peer=HERE, limits=Limits())),
        (answer, decode_associate_ac),
    ):
        for _ in range(4000):
            broken = bytearray(body)
            for _ in range(dice.randint(1, 4)):
                broken[dice.randrange(len(broken))] = dice.choice((0, 1, 0xFF, dice.randrange(256)))
            if dice.random() < 0.3:
                del broken[dice.randrange(len(broken)) :]
            try:
                decode(bytes(broken))
                read += 1
            except UnreadablePdu:
                pass
    assert read  # some mutations are harmless


# -- command sets ---------------------------------------------------------------------------


def pynetdicom_command(primitive: object, message: object, context_id: int = 3) -> bytes:
    """Return the command set bytes pynetdicom makes of a primitive."""
    message.primitive_to_message(primitive)  # type: ignore[attr-defined]
    pdvs = [
        value
        for p_data in message.encode_msg(context_id, 16384)  # type: ignore[attr-defined]
        for _, value in p_data.presentation_data_value_list
    ]
    return b"".join(value[1:] for value in pdvs if value[0] & 1)


def store_primitive() -> dimse_primitives.C_STORE:
    primitive = dimse_primitives.C_STORE()
    primitive.MessageID, primitive.Priority = 700, 1
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = CT, "1.2.3.45"
    primitive.MoveOriginatorApplicationEntityTitle = "MOVER"
    primitive.MoveOriginatorMessageID = 9
    primitive.DataSet = BytesIO(b"data")
    return primitive


def test_a_store_request_of_pynetdicom_is_read_in_full() -> None:
    encoded = pynetdicom_command(store_primitive(), dimse_messages.C_STORE_RQ())
    assert commandset.decode_command(encoded, 3) == Command(
        field=dimse.C_STORE_RQ,
        message_id=700,
        context_id=3,
        sop_class_uid=CT,
        sop_instance_uid="1.2.3.45",
        priority=1,
        move_originator="MOVER",
        move_originator_id=9,
        has_data_set=True,
    )


@pytest.mark.parametrize("uid", ["1.2.3.45", "1.2.3.456", "1." + "2" * 62, ""])
@pytest.mark.parametrize("sop_class", [CT, VERIFICATION, "1.2.34"])
def test_the_template_of_a_store_success_is_the_same_as_the_general_encoding(
    uid: str, sop_class: str
) -> None:
    command = Command(
        field=dimse.C_STORE_RQ,
        message_id=513,
        context_id=5,
        sop_class_uid=sop_class,
        sop_instance_uid=uid,
        has_data_set=True,
    )
    pdu = commandset.encode_store_success(command)
    body = commandset.encode_response(command, Response(0))
    if uid:
        (general,) = commandset.fragments(5, body, command=True, last=True, max_pdu=16384)
        assert pdu == general
    read = commandset.decode_command(pdu[12:], 5)
    assert (read.field, read.message_id, read.status) == (0x8001, 513, 0)
    assert (read.sop_class_uid, read.sop_instance_uid) == (sop_class, uid)
    assert struct.unpack(">I", pdu[2:6])[0] == len(pdu) - 6


def test_a_store_response_is_the_one_of_pynetdicom() -> None:
    primitive = dimse_primitives.C_STORE()
    primitive.MessageIDBeingRespondedTo, primitive.Status = 700, 0
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = CT, "1.2.3.45"
    theirs = pynetdicom_command(primitive, dimse_messages.C_STORE_RSP())
    asked = Command(dimse.C_STORE_RQ, 700, 3, sop_class_uid=CT, sop_instance_uid="1.2.3.45")
    assert commandset.encode_response(asked, Response(0)) == theirs


def test_message_ids_of_responses_and_cancels_are_those_responded_to() -> None:
    for field in (dimse.C_CANCEL_RQ, dimse.C_FIND_RQ | dimse.RESPONSE):
        encoded = commandset.encode_command(
            {dimse.COMMAND_FIELD: field, 0x120: 77, 0x110: 5, 0x800: 0x101, 0x900: 0xFF00}
        )
        assert commandset.decode_command(encoded, 1).message_id == 77


def test_a_command_set_whose_last_element_is_cut_is_unreadable() -> None:
    whole = pynetdicom_command(store_primitive(), dimse_messages.C_STORE_RQ())
    for cut in range(1, 9):
        with pytest.raises(UnreadablePdu):
            commandset.decode_command(whole[:-cut], 3)


@pytest.mark.spec("DN-11")
def test_no_mutation_of_a_command_set_raises_anything_but_unreadable() -> None:
    whole = pynetdicom_command(store_primitive(), dimse_messages.C_STORE_RQ())
    dice = random.Random(39)
    for _ in range(5000):
        broken = bytearray(whole)
        for _ in range(dice.randint(1, 3)):
            broken[dice.randrange(len(broken))] = dice.choice((0, 1, 0xFF, dice.randrange(256)))
        try:
            command = commandset.decode_command(bytes(broken[: dice.randint(1, len(broken))]), 3)
        except UnreadablePdu:
            continue
        commandset.encode_response(command, Response(0xA700, "full"))
        commandset.encode_store_success(command)


@pytest.mark.parametrize("size", [0, 1, 2, 121, 122, 123, 244, 1000])
def test_fragments_fit_the_pdu_length_and_only_the_last_is_marked(size: int) -> None:
    message = bytes(range(250)) * 4
    pdus = list(commandset.fragments(3, message[:size], command=False, last=True, max_pdu=128))
    assert all(len(pdu) <= 128 + 6 for pdu in pdus)
    assert [pdu[11] for pdu in pdus] == [0] * (len(pdus) - 1) + [2]
    assert b"".join(pdu[12:] for pdu in pdus) == message[:size]
    assert all(len(pdu) % 2 == 0 for pdu in pdus[:-1])
