# SPDX-License-Identifier: Apache-2.0
"""What people do to the box itself: give it a disk, take one away, let a volume rest.

Promises: what the settings say about volumes is what is in service, without a restart; every act
is refused in words where it would do harm, and is written into the audit trail.
Never: touches a volume's files itself, or decides anything about a patient's images.
"""
