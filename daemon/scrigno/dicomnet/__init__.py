# SPDX-License-Identifier: Apache-2.0
"""The DICOM upper layer on asyncio, accepting and requesting: bytes to messages and back.

Promises: the state table of PS3.8 section 9.2; a data set goes to its sink as it arrives, byte
for byte, and memory does not grow with it; every length a peer names is checked against our own
cap before anything is kept for it; silence, slowness and broken protocol end an association, and
its end is told exactly once. Must never: know what an archive is, decode a data set, block the
loop, or log what a data set holds.
"""
