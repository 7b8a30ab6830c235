# SPDX-License-Identifier: Apache-2.0
"""The tables of the index and how they came to be, step by step.

Words that only SQLite has stand in this file, in `dialect`, in `fulltext` and in `scrigno.db`.
"""

from typing import Final

from sqlite_utils import Database
from sqlite_utils.db import ForeignKey

from scrigno.db.migrations import Schema

from .columns import CARRIED, SORTS, index_columns, index_name
from .schema_cases import cases
from .schema_fixity import fixity
from .schema_lifecycle import lifecycle
from .schema_sight import study_origin
from .schema_volumes import volume_identity

_PATIENT_COLUMNS: Final[dict[str, type]] = {
    "patient_id": str,
    "patient_id_key": str,
    "issuer_of_patient_id": str,
    "patient_name": str,
    "patient_name_key": str,
    "patient_name_key2": str,
    "patient_name_key3": str,
    "patient_birth_date": str,
    "patient_sex": str,
    "other_patient_ids": str,
    "patient_comments": str,
    "patient_comments_key": str,
    "character_set": str,
}


def _create(database: Database, table: str, columns: dict[str, type], *refers: ForeignKey) -> None:
    """Make a table whose columns all hold a value: '' and 0 stand for what was not sent."""
    database.table(table).create(
        {"id": int, **columns},
        pk="id",
        not_null=set(columns),
        foreign_keys=list(refers),
    )


def _index(database: Database, table: str, *columns: str, name: str, unique: bool = False) -> None:
    database.table(table).create_index(list(columns), index_name=name, unique=unique)


def _partial_index(database: Database, name: str, on: str, where: str) -> None:
    database.execute(f"CREATE INDEX {name} ON {on} WHERE {where}")


def first_tables(database: Database) -> None:
    """Version 1: patient, study, series, instance, copy, inbox, the word index and counters."""
    _dictionaries(database)
    _patient(database)
    _study(database)
    _series(database)
    _instance(database)
    _copies(database, "copy", "instance")
    _inbox(database)
    _counters(database)


def _dictionaries(database: Database) -> None:
    # Few values, named by many rows. A modality is one bit of a study's `modality_bits`.
    database.table("modality").create({"bit": int, "code": str}, pk="bit", not_null={"code"})
    _index(database, "modality", "code", name="modality_by_code", unique=True)
    _create(database, "institution", {"name": str, "name_key": str})
    _index(database, "institution", "name", name="institution_by_name", unique=True)
    _create(
        database,
        "origin",
        {"door": str, "calling_ae": str, "called_ae": str, "address": str, "account": str},
    )


def _patient(database: Database) -> None:
    # `identity` is empty when there is an ID; without one, name and birth date keep people apart.
    _create(database, "patient", {"identity": str, **_PATIENT_COLUMNS})
    _index(
        database,
        "patient",
        "patient_id",
        "issuer_of_patient_id",
        "identity",
        name="patient_by_identity",
        unique=True,
    )
    _index(database, "patient", "patient_id_key", name="patient_by_patient_id")
    _name_indexes(database, "patient")


def _study(database: Database) -> None:
    _create(
        database,
        "study",
        {
            "patient": int,
            "study_instance_uid": str,
            "study_day": int,
            "study_micros": int,
            "modality_bits": int,
            "institution_id": int,
            "number_of_series": int,
            "number_of_instances": int,
            "size_bytes": int,
            "received_first": int,
            "received_last": int,
            "patient_conflict": int,
            "modalities": str,
            "sop_classes": str,
            "body_parts": str,
            **_PATIENT_COLUMNS,
            "patient_age": str,
            "patient_size": str,
            "patient_weight": str,
            "study_date": str,
            "study_time": str,
            "study_id": str,
            "study_id_key": str,
            "accession_number": str,
            "accession_number_key": str,
            "study_description": str,
            "study_description_key": str,
            "referring_physician_name": str,
            "referring_physician_name_key": str,
            "referring_physician_name_key2": str,
            "referring_physician_name_key3": str,
            "name_of_physicians_reading_study": str,
            "name_of_physicians_reading_study_key": str,
            "name_of_physicians_reading_study_key2": str,
            "name_of_physicians_reading_study_key3": str,
            "institution_name": str,
            "institution_name_key": str,
        },
        ForeignKey("study", "patient", "patient", "id"),
        ForeignKey("study", "institution_id", "institution", "id"),
    )
    _index(database, "study", "study_instance_uid", name="study_by_uid", unique=True)
    _index(database, "study", "patient", name="study_by_patient")
    _name_indexes(database, "study")
    _partial_index(database, "study_by_conflict", "study(id)", "patient_conflict = 1")
    for sort in SORTS:
        _index(database, "study", *index_columns(sort), name=index_name(sort))
    # Only the words of a study and its number: no text is kept twice. Prefixes up to four
    # characters have lists of their own, so that the first letters typed answer at once.
    database.execute(
        "CREATE VIRTUAL TABLE study_words USING fts5("
        "words, content='', contentless_delete=1, detail=none, prefix='1 2 3 4', "
        "tokenize='unicode61 remove_diacritics 0')"
    )


def _name_indexes(database: Database, table: str) -> None:
    if table == "patient":  # a study has one already: the list is sorted by it
        _index(database, table, "patient_name_key", name="patient_by_patient_name")
    carried = ", ".join(("", *CARRIED)) if table == "study" else ""
    for group in ("patient_name_key2", "patient_name_key3"):
        on = f"{table}({group}{carried})"
        _partial_index(database, f"{table}_by_{group}", on, f"{group} <> ''")


def _series(database: Database) -> None:
    _create(
        database,
        "series",
        {
            "study": int,
            "series_instance_uid": str,
            "series_number": str,
            "series_order": int,
            "series_day": int,
            "series_micros": int,
            "modality": str,
            "body_part_examined": str,
            "number_of_instances": int,
            "size_bytes": int,
            "series_date": str,
            "series_time": str,
            "series_description": str,
            "series_description_key": str,
            "protocol_name": str,
            "laterality": str,
            "patient_position": str,
            "station_name": str,
            "manufacturer": str,
            "manufacturer_model_name": str,
            "institutional_department_name": str,
            "performing_physician_name": str,
            "performing_physician_name_key": str,
            "performing_physician_name_key2": str,
            "performing_physician_name_key3": str,
            "operators_name": str,
            "operators_name_key": str,
            "operators_name_key2": str,
            "operators_name_key3": str,
            "performed_procedure_step_start_date": str,
            "performed_procedure_step_start_time": str,
            "frame_of_reference_uid": str,
            "request_attributes": str,
            "character_set": str,
        },
        ForeignKey("series", "study", "study", "id"),
    )
    _index(database, "series", "series_instance_uid", name="series_by_uid", unique=True)
    _index(
        database,
        "series",
        *("study", "series_order", "id", "modality", "body_part_examined"),
        *("series_number", "series_day", "series_micros"),
        name="series_by_study",
    )
    # what else a filter asks of the same series stands behind the study
    for column in ("series_description_key", "body_part_examined"):
        _index(
            database,
            "series",
            *(column, "study", "series_number", "series_day", "series_micros"),
            name=f"series_by_{column.removesuffix('_key')}",
        )
    # items of RequestAttributesSequence (0040,0275), for matching
    _create(
        database,
        "series_request",
        {"series": int, "item": int, "keyword": str, "value": str},
        ForeignKey("series_request", "series", "series", "id"),
    )
    _index(
        database,
        "series_request",
        *("series", "item", "keyword"),
        name="series_request_by_series",
    )
    _index(database, "series_request", "keyword", "value", name="series_request_by_value")


def _instance(database: Database) -> None:
    columns: dict[str, type] = {
        "series": int,
        "sop_instance_uid": str,
        "instance_order": int,
        "sop_class_uid": str,
        "transfer_syntax_uid": str,
        "digest": bytes,
        "size": int,
        "received_at": int,
        "origin": int,
        "instance_number": str,
        "content_date": str,
        "content_time": str,
        "acquisition_date": str,
        "acquisition_time": str,
        "acquisition_number": str,
        "image_type": str,
        "image_comments": str,
        "slice_location": str,
        "image_position_patient": str,
        "image_orientation_patient": str,
        "photometric_interpretation": str,
        "pixel_spacing": str,
        "window_center": str,
        "window_width": str,
        "document_title": str,
        "completion_flag": str,
        "verification_flag": str,
        "character_set": str,
    }
    # empty when not sent; `key` is empty when it is the one that the UIDs give
    numbers: dict[str, type] = {
        "number_of_frames": int,
        "rows": int,
        "columns": int,
        "bits_allocated": int,
        "bits_stored": int,
        "samples_per_pixel": int,
        "key": str,
        "staged_as": str,
    }
    database.table("instance").create(
        {"id": int, **columns, **numbers},
        pk="id",
        not_null=set(columns),
        foreign_keys=[
            ForeignKey("instance", "series", "series", "id"),
            ForeignKey("instance", "origin", "origin", "id"),
        ],
    )
    _index(database, "instance", "sop_instance_uid", name="instance_by_uid", unique=True)
    _index(database, "instance", "series", "instance_order", "id", name="instance_by_series")
    _partial_index(
        database, "instance_by_staged_as", "instance(staged_as)", "staged_as IS NOT NULL"
    )


def _copies(database: Database, table: str, of: str) -> None:
    # state: 1 held, 2 owed, 3 missing. One row per object and volume; the key is the whole row.
    database.execute(
        f"CREATE TABLE {table} ("
        f"object INTEGER NOT NULL REFERENCES {of}(id), volume TEXT NOT NULL, "
        "state INTEGER NOT NULL, verified_at INTEGER, PRIMARY KEY (object, volume)"
        ") WITHOUT ROWID"
    )
    _partial_index(database, f"{table}_by_debt", f"{table}(volume, object)", "state > 1")


def _inbox(database: Database) -> None:
    columns: dict[str, type] = {
        "key": str,
        "reason": str,
        "digest": bytes,
        "size": int,
        "received_at": int,
        "door": str,
        "calling_ae": str,
        "called_ae": str,
        "address": str,
        "account": str,
        "sop_class_uid": str,
        "sop_instance_uid": str,
        "study_instance_uid": str,
        "series_instance_uid": str,
        "transfer_syntax_uid": str,
        "patient_name": str,
        "patient_id": str,
        "comment": str,
    }
    database.table("inbox").create(
        {"id": int, **columns, "staged_as": str}, pk="id", not_null=set(columns)
    )
    _index(database, "inbox", "key", name="inbox_by_key", unique=True)
    _partial_index(database, "inbox_by_staged_as", "inbox(staged_as)", "staged_as IS NOT NULL")
    _copies(database, "inbox_copy", "inbox")


def _counters(database: Database) -> None:
    _create(
        database,
        "totals",
        {"patients": int, "studies": int, "series": int, "instances": int, "size_bytes": int},
    )
    database.table("totals").insert(
        {"id": 1, "patients": 0, "studies": 0, "series": 0, "instances": 0, "size_bytes": 0}
    )
    tally: dict[str, type] = {"volume": str}
    for state in ("held", "owed", "missing"):
        tally |= {state: int, f"{state}_bytes": int}
    database.table("volume_tally").create(tally, pk="volume", not_null=set(tally) - {"volume"})


INDEX_SCHEMA: Final = Schema(
    "index", (first_tables, fixity, lifecycle, cases, volume_identity, study_origin), compat=1
)
