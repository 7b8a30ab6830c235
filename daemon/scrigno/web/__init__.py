# SPDX-License-Identifier: Apache-2.0
"""The pages and the HTTP interface: what a browser or a program asks the box.

Promises: every route names who may use it; every refusal is a problem document (RFC 9457) with a
stable code; nothing about a patient stands in a URL or a log beyond UIDs. Must never: decide
about images, volumes or people (the rooms below do), read a file by a name that came from
outside, or block the loop.
"""
