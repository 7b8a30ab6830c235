# SPDX-License-Identifier: Apache-2.0
"""Work that takes long: durable, cancellable, resumable, with progress and a reason per failure.

It promises that a job that was started ends or is told about, across restarts and kill -9, and
that its checkpoint, counts, progress and failed items always belong together. It must never know
what a job is about, and never do work that its author may not do at that moment.
"""
