# SPDX-License-Identifier: Apache-2.0
"""Scrigno, a PACS in a box: an image that was acknowledged is never lost, whichever disk dies."""

__version__ = "0.1.0"
