# SPDX-License-Identifier: Apache-2.0
"""Every cap and time limit of the upper layer in one place, with the reason for each default."""

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a peer may ask of us. Sizes in bytes, times in seconds; none comes from the peer."""

    # Announced in A-ASSOCIATE (PS3.8 annex D.1). DCMTK sends up to 131072, others what we say.
    max_pdu: int = 256 * KIB
    # P-DATA-TF above this is a broken or hostile peer; between `max_pdu` and this it is forgiven.
    hard_max_pdu: int = MIB
    # What we send at most in one PDU, whatever the peer would take ("no limit" included).
    max_sent_pdu: int = 256 * KIB
    max_associate_pdu: int = 64 * KIB
    max_contexts: int = 128  # odd ids 1..255, PS3.8 section 9.3.2.2
    max_command: int = 16 * KIB
    max_identifier: int = MIB
    # Requests of one peer that may run at once, even when it negotiated "no limit".
    max_operations: int = 16

    artim_s: float = 10  # connect to A-ASSOCIATE-RQ, and our last word to the peer's close
    negotiate_s: float = 30  # A-ASSOCIATE-RQ to our answer, and ours to the peer's
    message_idle_s: float = 30  # silence in the middle of a message; found within twice this time
    association_idle_s: float = 600  # silence between messages
    response_s: float = 60  # our request to the peer's next answer, when the caller names no time
    # A message that arrives slower than this, over `message_idle_s`, is a slow-loris attack.
    min_bytes_per_s: int = KIB

    max_associations: int = 64
    max_associations_per_peer: int = 8  # of one calling AE title at one address
    # Of one address, whatever titles it gives itself: the rest stays free for the others.
    max_associations_per_host: int = 48
    # TCP connections, those that have not asked for an association included. Over it the oldest
    # of those that have not asked gives way, so idle connections keep no real sender out.
    max_connections: int = 1200


DEFAULT_LIMITS = Limits()
