# SPDX-License-Identifier: Apache-2.0
"""The operating system: the only door to processes, and what the machine says of itself.

Promises: a process started here has a cleaned environment, only the descriptors it was given, a
deadline, and dies with us. Never waits for a process that cannot be killed (D state): it is
abandoned, told of, and reaped when the kernel lets it go.

Facts about disks, arrays, SMART, heat, power and time (`machine.Machine`) are values; a tool that
is absent, hangs or talks rubbish is `NotAvailable` with the reason. No fact is got by touching a
data or backup volume, and no disk is named by its letter.
"""
