# SPDX-License-Identifier: Apache-2.0
"""Rows that tests of the rooms prove: hostile peers and files, fixtures of hardware, channels."""

from fault_run import Proof

HOSTILE = "tests/dicomnet/test_dicomnet_hostile.py"
SERVER = "tests/dicomnet/test_dicomnet_server.py"
NODE = "tests/node/test_node_storage.py"

ROWS = (
    Proof(
        number="38", name="streams cut at every byte, lengths of 0 and 4 GiB",
        tests=(
            f"{HOSTILE}::test_a_stream_cut_at_any_byte_leaves_nothing_behind",
            f"{HOSTILE}::test_lengths_of_four_gigabytes_cost_no_memory",
            "tests/dicomnet/test_dicomnet_framing.py",
        ),
    ),
    Proof(
        number="39", name="mutated associations and data sets",
        tests=(
            f"{HOSTILE}::test_mutated_streams_neither_crash_nor_hang_nor_leak",
            "tests/imaging/test_imaging_hostile.py",
        ),
    ),
    Proof(
        number="40", name="a thousand idle and half-open connections, drips, slow readers",
        tests=(
            f"{HOSTILE}::test_a_thousand_idle_and_half_open_connections_harm_no_sender",
            f"{SERVER}::test_a_request_dripped_byte_by_byte_does_not_stretch_artim",
            f"{SERVER}::test_a_message_that_drips_is_aborted_for_its_throughput",
            f"{SERVER}::test_a_peer_that_does_not_read_is_aborted_and_memory_stays_flat",
            f"{SERVER}::test_one_host_cannot_take_all_associations_under_many_names",
        ),
    ),
    Proof(
        number="41", name="abort, reset and release in the middle of a C-STORE",
        tests=(
            f"{SERVER}::test_an_object_that_is_cut_off_is_discarded",
            f"{SERVER}::test_a_complete_object_is_finished_though_the_peer_is_gone",
            f"{SERVER}::test_a_release_waits_for_the_answer_to_a_complete_object",
            f"{NODE}::test_an_association_that_dies_in_an_object_leaves_nothing",
        ),
    ),
    Proof(
        number="43", name="huge objects, endless objects, floods of fragments",
        tests=(
            f"{HOSTILE}::test_an_endless_object_needs_no_more_memory_than_a_small_one",
            f"{HOSTILE}::test_a_flood_of_fragments_does_not_stop_the_loop_for_others",
            f"{NODE}::test_an_object_over_the_size_limit_gets_a700_and_the_association_lives",
            f"{NODE}::test_a_large_object_flows_through_and_stands_as_sent",
        ),
    ),
    Proof(
        number="44", name="pixel bombs: the decoder dies within its limits, storing goes on",
        tests=("tests/imaging/test_imaging_workers.py",),
    ),
    Proof(
        number="45", name="UIDs and AE titles that would be paths",
        tests=(
            f"{NODE}::test_a_data_set_that_names_another_object_than_the_command_gets_a900",
            f"{NODE}::test_rubbish_with_a_good_name_is_kept_aside_and_without_one_refused",
            "tests/core/test_core_words.py",
            "tests/volumes/test_volumes_tree.py",
            "tests/volumes/test_volumes_volume.py::test_no_key_leads_out_of_a_volume",
        ),
    ),
    Proof(
        number="46b", name="one UID, other bytes: the second is kept aside",
        tests=("tests/archive/test_archive_rivals.py", "tests/archive/test_archive_inbox.py"),
    ),
    Proof(
        number="49", name="SMART, temperature, UPS and tools that hang or print rubbish",
        tests=(
            "tests/host/test_host_smart.py",
            "tests/host/test_host_sensors.py",
            "tests/host/test_host_process.py",
            "tests/host/test_host_facts_fuzz.py",
            "tests/health/test_health_watch.py",
        ),
    ),
    Proof(
        number="53", name="the mail server hangs: alerts wait and the other channel tells",
        tests=("tests/health/test_health_channels.py",),
    ),
    Proof(
        number="54b", name="the audit trail's disk dies, cannot be written, loses its last line",
        tests=("tests/access/test_access_audit.py",),
    ),
)  # fmt: skip
