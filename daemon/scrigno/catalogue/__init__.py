# SPDX-License-Identifier: Apache-2.0
"""What exists and how to ask for it: patients, studies, series, instances, copies, inbox.

It promises that a row that was answered for survives power loss, that an object is either wholly
known or not at all, and that it never decides by itself to forget: a damaged index is reported,
never deleted. It never touches a volume, never reads DICOM bytes and never merges two patients.
"""
