# SPDX-License-Identifier: Apache-2.0
"""What is inside a DICOM object: header reads, file meta, decode, window, transcode, frame cache.

Promises: the header of an object is read in the main process by a scanner that is bounded in time,
depth and memory and raises nothing but `HeaderUnreadable` and `HeaderIncomplete`; everything that
decodes pixels or interprets a whole object runs in a sandboxed, killable worker process; a decoder
that crashes or hangs fails its own job only.

Must never: decode pixels in the main process, import pydicom there, change the bytes of a stored
object, let a text of an object reach a path, or put a patient's text in a log or an error.
"""
