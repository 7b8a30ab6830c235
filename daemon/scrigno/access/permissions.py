# SPDX-License-Identifier: Apache-2.0
"""What somebody may do, one word for each kind of act; roles are sets of these words."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final


class Permission(StrEnum):
    """One kind of act. The words stand in the database and in tokens and never change."""

    VIEW = "view"  # list and look at studies
    ANNOTATE = "annotate"  # notes, labels, annotations, key images
    REPORT = "report"  # write reports
    SHARE = "share"  # make links for guests
    EXPORT = "export"  # download and write media
    IMPORT = "import"  # bring files in, STOW-RS included
    EDIT = "edit"  # correct patients, decide on the inbox, protect
    DELETE = "delete"  # move studies to the trash and back
    SEND = "send"  # send studies to other nodes
    QUERY = "query"  # ask other nodes and retrieve from them
    AUDIT = "audit"  # read the audit trail and the logs
    ADMIN = "admin"  # settings, accounts, volumes, service


EVERY_PERMISSION: Final = frozenset(Permission)


def written(permissions: Iterable[Permission]) -> str:
    """Return permissions as they stand in the database: words with spaces, in their order."""
    wanted = frozenset(permissions)
    return " ".join(each for each in Permission if each in wanted)


def read(text: str) -> frozenset[Permission]:
    """Return the permissions of a text; words of another release are left out."""
    known = frozenset(text.split())
    return frozenset(each for each in Permission if each.value in known)
