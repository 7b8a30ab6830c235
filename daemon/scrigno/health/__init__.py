# SPDX-License-Identifier: Apache-2.0
"""Facts to conditions: what is wrong with the box, how bad it is and what to do about it.

Promises: a pure function from facts to conditions with stable codes; the same facts always give
the same answer. Never: measures anything itself, waits, or touches a disk.
"""
