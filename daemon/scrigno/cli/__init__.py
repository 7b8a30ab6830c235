# SPDX-License-Identifier: Apache-2.0
"""The commands of the operator: clients of the running daemon's control socket.

Promises: every command ends with what was done or with state, reason and next step, and with exit
code 0 (done), 1 (failed or refused) or 2 (wrong use or bad configuration). Never touches a volume
or the index itself.
"""
