# SPDX-License-Identifier: Apache-2.0
"""What people add to images: notes, labels, annotations, key images, preferences, shares, launches.

Promises: a save that was answered with success stands on the system disk and on a volume, and
outlives either; what somebody saved is never overwritten by somebody who had not seen it; each
version is kept with its author and its time. Must never: change an image, decide who may see a
study, or keep a secret of a link in clear.
"""
