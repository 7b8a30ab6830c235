# SPDX-License-Identifier: Apache-2.0
"""Words every room shares: ids, errors, attributes, events, counters, time. No I/O."""
