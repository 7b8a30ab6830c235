# SPDX-License-Identifier: Apache-2.0
"""Storage SCP (PS3.4 annex B): the bytes of a C-STORE go straight into the archive's reception.

This is the hot path: whatever does not depend on the image was decided when the association came.
"""

import logging
from collections.abc import Callable
from typing import Final

from scrigno.archive.ingest import Ingest, Reception, StoreOutcome
from scrigno.catalogue.records import Origin
from scrigno.core.counters import Counters
from scrigno.core.errors import ScrignoError
from scrigno.core.events import EventBus, ObjectRefused
from scrigno.dicomnet.service import Command, Response, StoreSink
from scrigno.settings.schema import Right, UnknownSopClasses
from scrigno.settings.store import SettingsStore

from .admission import Admission
from .negotiation import Service, service_of
from .statuses import Status, comment, status_of_store_error

log = logging.getLogger(__name__)

_STORED: Final = Response(Status.SUCCESS)


class Storage:
    """Opens sinks for the images of one association."""

    def __init__(
        self,
        admission: Admission,
        *,
        ingest: Ingest,
        settings: SettingsStore,
        counters: Counters,
        bus: EventBus,
    ) -> None:
        """Take images from the node that was admitted."""
        self._ingest = ingest
        self._settings = settings
        self._counters = counters
        self._bus = bus
        self.admitted(admission)

    def admitted(self, admission: Admission) -> None:
        """Use these rights from the next image on."""
        self._calling_ae = admission.calling_ae
        self._may_store = Right.STORE in admission.rights
        self._hold = admission.hold
        self._origin = Origin(
            door="dicom",
            calling_ae=admission.calling_ae,
            called_ae=admission.called_ae,
            address=admission.host,
        )

    def sink(
        self, command: Command, transfer_syntax: str, resume: Callable[[], None]
    ) -> StoreSink | Response:
        """Return where the data set goes, or the answer that refuses it."""
        if not self._may_store:
            return self._refuse(
                Status.NOT_AUTHORISED, "not-allowed", f"Node {self._calling_ae} may not store."
            )
        service = service_of(command.sop_class_uid)
        if service is not Service.STORAGE:
            unknown = service is Service.UNKNOWN or service is None
            policy = self._settings.current.ingest.unknown_sop_classes
            if not (unknown and policy is UnknownSopClasses.ACCEPT):
                return self._refuse(
                    Status.SOP_CLASS_NOT_SUPPORTED,
                    "sop-class-refused",
                    "This SOP class is not stored here.",
                )
        try:
            reception = self._ingest.begin(
                origin=self._origin,
                sop_class_uid=command.sop_class_uid,
                sop_instance_uid=command.sop_instance_uid,
                transfer_syntax_uid=transfer_syntax,
                hold=self._hold,
            )
        except ScrignoError as error:
            return self._refuse(status_of_store_error(error), error.code, error.reason)
        reception.on_drain = resume
        return _Sink(reception, self)

    def answer(self, outcome: StoreOutcome) -> Response:
        """Count what was kept and return the answer; every outcome is a success (DESIGN 3)."""
        self._counters.add("dicom_store", outcome=outcome)
        return _STORED

    def failed(self, error: ScrignoError) -> Response:
        """Return the answer to an image that could not be kept."""
        return self._refuse(status_of_store_error(error), error.code, error.reason)

    def _refuse(self, status: Status, code: str, reason: str) -> Response:
        self._counters.add("dicom_store_refused", code=code, status=f"{status:04X}")
        self._bus.publish(
            ObjectRefused(
                calling_ae=self._calling_ae, host=self._origin.address, code=code, reason=reason
            )
        )
        log.warning("store from %r: refused with %04X: %s", self._calling_ae, status, reason)
        return Response(status, comment(reason))


class _Sink:
    """One image on its way in."""

    __slots__ = ("_reception", "_storage", "write")

    def __init__(self, reception: Reception, storage: Storage) -> None:
        self._reception = reception
        self._storage = storage
        self.write = reception.write  # no frame of ours between the network and the archive

    async def finish(self) -> Response:
        try:
            receipt = await self._reception.commit()
        except ScrignoError as error:
            return self._storage.failed(error)
        return self._storage.answer(receipt.outcome)

    def discard(self, reason: str) -> None:
        self._reception.discard(reason)
