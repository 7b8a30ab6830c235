# SPDX-License-Identifier: Apache-2.0
"""Objects for the catalogue, made without a file."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from scrigno.catalogue.records import NewInstance, Origin
from scrigno.core.attributes import (
    IndexAttributes,
    InstanceAttributes,
    PatientAttributes,
    PersonName,
    SeriesAttributes,
    StudyAttributes,
)
from scrigno.core.phi import Phi
from scrigno.core.uids import object_key

CT = "1.2.840.10008.5.1.4.1.1.2"
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def make_instance(
    study: str = "1.2.3",
    series: str = "",
    sop: str = "",
    *,
    content: str = "",
    size: int = 1000,
    copies: tuple[str, ...] = ("data",),
    owed: tuple[str, ...] = (),
    staged_as: str | None = None,
    minutes: int = 0,
    sop_class: str = CT,
    character_set: str = "",
    **attributes: Any,
) -> NewInstance:
    """Return one object; `attributes` go to whichever part has them."""
    series = series or f"{study}.1"
    sop = sop or f"{series}.1"
    parts: dict[type, dict[str, Any]] = {
        kind: {}
        for kind in (PatientAttributes, StudyAttributes, SeriesAttributes, InstanceAttributes)
    }
    for name, value in attributes.items():
        for kind, own in parts.items():
            if name in kind.__dataclass_fields__:  # type: ignore[attr-defined]
                own[name] = _typed(name, value)
                break
        else:
            raise TypeError(name)
    return NewInstance(
        attributes=IndexAttributes(
            patient=PatientAttributes(**parts[PatientAttributes]),
            study=StudyAttributes(study_instance_uid=study, **parts[StudyAttributes]),
            series=SeriesAttributes(
                series_instance_uid=series, **({"modality": "CT"} | parts[SeriesAttributes])
            ),
            instance=InstanceAttributes(
                sop_class_uid=sop_class,
                sop_instance_uid=sop,
                transfer_syntax_uid="1.2.840.10008.1.2.1",
                **parts[InstanceAttributes],
            ),
            character_set=character_set,
        ),
        key=object_key(study, series, sop),
        digest=hashlib.sha256((content or sop).encode()).hexdigest(),
        size=size,
        received_at=EPOCH + timedelta(minutes=minutes),
        origin=Origin(door="dicom", calling_ae="CT1", address="192.0.2.7"),
        copies=copies,
        owed=owed,
        staged_as=staged_as,
    )


def _typed(name: str, value: Any) -> Any:
    if name.endswith("_name") and name.startswith(("patient", "referring", "performing", "oper")):
        return PersonName.parse(value)
    if name == "name_of_physicians_reading_study":
        return PersonName.parse(value)
    return Phi(value) if name.startswith("patient_") and isinstance(value, str) else value
