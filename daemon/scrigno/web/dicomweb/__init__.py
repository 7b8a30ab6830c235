# SPDX-License-Identifier: Apache-2.0
"""DICOMweb (PS3.18): search, retrieve and store studies over HTTP, for viewers as they are.

Promises: what somebody does not see answers 404 like what is not there; bytes leave as they were
received or converted as the request names it, and a transfer that cannot be ended right is broken
off, never ended short; an object is answered as stored only when it is durable. Must never: hold a
study in memory, decode pixels here, or put a patient's text in a URL or a log.
"""
