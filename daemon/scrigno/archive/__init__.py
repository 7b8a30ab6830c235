# SPDX-License-Identifier: Apache-2.0
"""What the product is about: taking images in durably, finding, reading, moving and keeping them.

Promises: an object is acknowledged only when it stands on as many devices as the policy asks
for and its row is committed; every step can be repeated after a crash with the same result; an
object that was taken in is never overwritten and never thrown away without an operator's word.

Never: decodes pixels, re-encodes a data set, builds a path from a peer's text, opens a file on a
volume (the volume's worker does), or speaks DIMSE or HTTP.
"""
