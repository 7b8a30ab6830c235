# SPDX-License-Identifier: Apache-2.0
"""Objects that were kept aside: listed, accepted into the archive or rejected by an operator."""
