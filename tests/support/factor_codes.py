# SPDX-License-Identifier: Apache-2.0
"""Codes of an authenticator app (RFC 6238), made by hand as a telephone makes them."""

import base64
import hmac
import struct


def code_of(secret: str, seconds: float) -> str:
    """Return the code of a base 32 secret at a time in UNIX seconds."""
    step = struct.pack(">Q", int(seconds // 30))
    digest = hmac.digest(base64.b32decode(secret), step, "sha1")
    place = digest[-1] & 15
    number = struct.unpack(">I", digest[place : place + 4])[0] & 0x7FFFFFFF
    return f"{number % 1_000_000:06}"
