# SPDX-License-Identifier: Apache-2.0
"""Composes every object once and owns start order, stop order and the loop.

Promises: a second daemon on the same state directory is refused in words; what was started is
stopped in reverse order with a limit for each part, whatever failed in between.
Never decides anything about images, volumes or people: that is the rooms' business.
"""
