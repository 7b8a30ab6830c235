# SPDX-License-Identifier: Apache-2.0
"""The index attributes of an object, scanned by hand from the bytes of its data set."""

from scrigno.core.attributes import IndexAttributes


def read_index_attributes(
    head: bytes | memoryview,
    *,
    transfer_syntax_uid: str,
    sop_class_uid: str,
    sop_instance_uid: str,
    default_character_set: str = "",
    size: int | None = None,
) -> IndexAttributes:
    """Read what the catalogue keeps from `head`, the first bytes of the data set (no file meta).

    `size` is the length of the whole data set in bytes when the caller knows it: with it, an
    object that ends too early is told from a head that is too short. Raises `HeaderIncomplete`
    (read more, see `needed_bytes`) and `HeaderUnreadable`, never anything else.
    """
    raise NotImplementedError
