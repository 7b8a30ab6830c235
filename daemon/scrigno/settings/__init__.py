# SPDX-License-Identifier: Apache-2.0
"""How the box is set up: what it reads once at start, and what can be changed while it runs.

Promises: every value was checked before anybody sees it; a change is durable before it is in
force; every earlier revision can be brought back. Must never: guess a value that it could not
read, fall back to an older revision in silence, or hold a password.
"""
