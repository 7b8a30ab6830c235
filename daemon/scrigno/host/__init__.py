# SPDX-License-Identifier: Apache-2.0
"""The operating system: the only door through which processes are started.

Promises: a process started here has a cleaned environment, only the descriptors it was given, a
deadline, and dies with us. Never waits for a process that cannot be killed (D state): it is
abandoned, told of, and reaped when the kernel lets it go.
"""
