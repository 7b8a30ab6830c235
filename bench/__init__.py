# SPDX-License-Identifier: Apache-2.0
"""Measures Scrigno beside its peers in one run: Orthanc, DCMTK's dcmqrscp and storescp, the disk.

Promises that every timed leg starts on an empty archive after a warm-up, that the legs of the
servers are interleaved (A B A B), and that nothing it started or wrote outlives it. Is never a
test: a slow machine gives slow figures, not a failure. The rows that talk to a server never import
the product: they see it as a peer sees it.
"""
