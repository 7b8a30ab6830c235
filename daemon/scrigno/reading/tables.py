# SPDX-License-Identifier: Apache-2.0
"""The tables of `<state_dir>/reading.db`."""

from typing import Final

import sqlite_utils

from scrigno.db.migrations import Schema


def documents_and_debts(database: sqlite_utils.Database) -> None:
    """Make the tables of documents, their versions, and what volumes have still to be given."""
    documents = database.table("document")
    documents.create(
        {
            "id": int,
            "scope": str,  # study, account, box
            "subject": str,  # Study Instance UID, folded account name, or empty
            "kind": str,
            "layer": str,  # folded name of whose layer it is, or empty
            "owner": str,  # that name as it is written
            "revision": int,  # grows by one at each save
            "version": int,  # number of the newest version
        },
        pk="id",
        not_null={"scope", "subject", "kind", "layer", "owner", "revision", "version"},
    )
    documents.create_index(["scope", "subject", "kind", "layer"], unique=True)
    database.table("version").create(
        {
            "document": int,
            "number": int,
            "revision": int,  # of the document when it was saved
            "author": str,
            "began_at": str,  # first and last save that made it, ISO 8601, UTC
            "saved_at": str,
            "content": str,  # JSON
        },
        pk=("document", "number"),
        not_null={"revision", "author", "began_at", "saved_at", "content"},
        foreign_keys=[("document", "document", "id")],
    )
    database.table("owed").create(
        {"volume": str, "document": int, "number": int, "key": str},
        pk=("volume", "document", "number"),
        not_null={"key"},
    )
    database.table("removal").create({"volume": str, "key": str}, pk=("volume", "key"))
    database.table("disk").create({"volume": str, "uuid": str}, pk="volume", not_null={"uuid"})


def shares(database: sqlite_utils.Database) -> None:
    """Make the tables of links for guests and of who opened them."""
    links = database.table("share")
    links.create(
        {
            "id": str,
            "digest": str,  # SHA-256 of the secret, which is kept nowhere
            "owner": str,
            "folded_owner": str,
            "title": str,
            "created_at": str,
            "expires_at": str,
            "studies": str,  # JSON list of Study Instance UIDs
            "permissions": str,  # JSON list
            "gate": str,  # none, password, birth-date
            "secret_hash": str,  # of the password, argon2id
            "most_uses": int,  # 0: as often as wanted
            "uses": int,
            "wrong": int,
            "revoked_at": str,
            "revoked_by": str,
        },
        pk="id",
        not_null={"digest", "owner", "created_at", "expires_at", "studies", "gate"},
    )
    links.create_index(["digest"], unique=True)
    links.create_index(["folded_owner"])
    uses = database.table("share_use")
    uses.create(
        {"id": int, "share": str, "at": str, "address": str, "agent": str, "outcome": str},
        pk="id",
        not_null={"share", "at", "outcome"},
        foreign_keys=[("share", "share", "id")],
    )
    uses.create_index(["share"])


SCHEMA: Final = Schema("reading", (documents_and_debts, shares), compat=1)
