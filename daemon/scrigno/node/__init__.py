# SPDX-License-Identifier: Apache-2.0
"""The DICOM door of the box: its providers, who may come in, and the services they find there.

Promises: every request is answered with the status that PS3.4 gives it; success to a C-STORE is
answered only for what the archive made durable; what is refused is answered, logged without
patient data and counted with its reason; a provider is added, changed or removed without harm to
the associations of another one.

Never: touches a file or a volume, re-encodes what it stores, decodes pixels, or sends bytes that
are not those of the stored object (or of its lossless transcoding).
"""
