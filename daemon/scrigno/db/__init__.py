# SPDX-License-Identifier: Apache-2.0
"""The embedded database engine: one writer with group commit, readers of their own, migrations.

It promises that a write that was answered survives power loss, and that readers never wait for
the writer. It must never delete or replace a damaged file, and never block the event loop.
"""
