# SPDX-License-Identifier: Apache-2.0
"""Objects that are no ordinary pictures, as a browser can show them.

Promises: every text of an object is escaped on its way into HTML or SVG; the pages and drawings
made here hold no script, no style from outside and no reference; sizes and depths are limited.

Runs in the imaging workers only.
"""
