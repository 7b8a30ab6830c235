# SPDX-License-Identifier: Apache-2.0
"""Where bytes live: staging, volumes, their identity, their worker processes, placement.

Promises: what is said to be stored survives the loss of power; a name that is visible is a whole
object; a volume that is hung, dead, full, unmounted or the wrong one is left alone within seconds
and never blocks the caller.
Must never: touch a volume from the main process, build a path from anything but a checked key,
call fsync twice on a file whose fsync failed, map a file into memory, know what DICOM is.
"""
