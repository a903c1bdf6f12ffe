"""The traps of both servers, as they are known, and the tests that hold each of them shut."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

#: A trap → tests that would fail if the program fell into it, each as `module::name`.
V1 = {
    "no partial write, append or truncate": "fs/writing::random_writes fs/writing::truncate",
    "uploads happen in place and follow links": (
        "api/typed::upload_writes_in_place fs/writing::an_overwrite_keeps_the_file_of_the_cluster"
    ),
    "an upload's limit counts the whole body, a download's is three quarters": (
        "api/v1::an_upload_of_the_limit_passes_whatever_the_path"
        " api/v1::a_download_of_the_limit_passes"
    ),
    "a staged upload lands at the next sweep": "tutorial::11_external_upload",
    "115 is tried again for ever": "api/objects::v1_goes_on_with_an_upload_that_failed",
    "a staged upload's target may be a directory, also one that is closed": (
        "tutorial::11_external_upload api/objects::a_closed_directory_is_no_place_for_an_upload"
    ),
    "probe files come and go": "fs/names::names_of_the_machinery",
    "a failed call may have acted": (
        "api/v1::changes_that_worked_in_spite_of_noise api/typed::mkdir_settles_a_lost_answer"
        " api/v1::a_rename_that_is_reported_as_failed_but_happened"
    ),
    "tar's warnings count as failures": "api/typed::archives_that_tar_warns_about",
    "a full disk leaves truncated files": (
        "unit/removing::what_a_failed_store_left_is_removed_and_nothing_else"
        " emulator/v1_utilities::full_disk_leaves_a_truncated_file"
    ),
    "no exclusive creation": (
        "fs/writing::o_excl unit/engine::a_name_that_someone_else_took_keeps_both"
    ),
    "a running program can't be written": "api/fault_v1::system_words_at_the_end",
    "view, head and tail are for text": (
        "api/v1::parts_of_large_text api/v1::head_and_tail_of_what_is_no_text"
    ),
    "ranges of downloads cost a full read": (
        "api/v1::ranges_of_binary_files fs/reading::several_readers_cause_one_download"
    ),
    "an empty answer is no empty file; FIFOs freeze the service": (
        "api/v1::an_empty_answer_is_not_proof_of_an_empty_file"
        " api/v1::nothing_is_written_into_a_fifo fs/reading::fifos_are_shown_and_refused"
    ),
    "staging passes paths through a shell": (
        "api/objects::what_cannot_be_staged api/objects::other_names_can_be_staged"
    ),
    "invalidating does nothing, or stumbles": (
        "api/objects::giving_up_what_is_not_staged_is_no_failure tutorial::09_invalidate_the_link"
    ),
    "names with shell characters can't be addressed": (
        "api/v1::what_cannot_be_addressed_is_refused_before_any_request"
        " fs/names::what_not_even_a_tar_carries_is_refused"
    ),
    "listings escape names": (
        "api/typed::odd_names_are_listed_as_they_are"
        " api/typed::real_backslashes_are_told_from_escapes api/typed::a_name_that_is_not_utf8"
    ),
    "one name can break a directory": "api/v1::a_name_that_v1_takes_for_an_error",
    "one vanished entry fails the listing": (
        "api/v1::an_entry_that_vanished_costs_one_more_request"
        " api/v1::a_stale_entry_does_not_hide_the_others"
    ),
    "devices and owners with spaces are missing": (
        "api/v1::devices_are_not_listed_but_count"
        " emulator/v1_utilities::sockets_are_shown_and_groups_with_spaces_vanish"
    ),
    "a listed file has its path for a name; recursion has other things": (
        "api/typed::list_of_what_is_no_directory"
        " api/v1::what_recursive_listings_hold_besides_entries"
    ),
    "big directories exceed the limits": (
        "api/v1::a_directory_with_too_much_text fs/limits::a_directory_over_the_limit_of_a_listing"
    ),
    "listing times have no zone": (
        "api/zone::a_wrong_guess_is_corrected_by_one_observation api/zone::around_a_change"
        " fs/reading::times_in_summer_and_in_winter"
    ),
    "times have whole seconds": (
        "fs/consistency::a_replaced_file_of_equal_size_and_time_is_a_conflict_too"
    ),
    "stat has no blocks": "fuse/programs::du",
    "no times, no nodes, no attributes can be set": (
        "fs/attributes::times_of_a_new_file_land fs/attributes::special_files_are_refused"
        " fs/attributes::extended_attributes fs/reading::statvfs_has_room"
    ),
    "chmod follows links; the umask is the cluster's": (
        "fs/links::attributes_of_a_link_never_reach_its_target"
        " unit/engine::a_umask_takes_from_a_new_file_without_a_request"
    ),
    "old servers tell permissions only": "api/v1::modes_of_old_servers",
    "removing is recursive": (
        "api/typed::remove_never_takes_a_tree_for_a_file"
        " fs/attributes::a_directory_that_someone_filled_meanwhile_is_not_removed"
    ),
    "renaming onto a directory moves into it": (
        "api/v1::rename_never_moves_into_a_directory fs/rename::kinds"
    ),
    "renaming across file systems copies": (
        "api/v1::rename_between_file_systems fs/rename::to_another_file_system_is_left_to_mv"
    ),
    "links land inside directories": "api/v1::links_never_land_inside_a_directory",
    "any p hides that a directory exists": "api/v1::mkdir_sends_p_only_where_it_is_meant",
    "long operations stop half done": "fs/limits::a_command_that_takes_too_long",
    "every call is slow": "fs/budgets::ls_l fs/budgets::a_walk",
    "429": "api/session::a_429_holds_all_threads api/typed::a_rate_limit",
    "401 in the middle": "api/v1::a_refused_token_is_renewed_once",
    "502 may be an error about a name": (
        "api/fault_v1::a_gateway_that_got_no_answer_about_a_name_outside_latin_1"
    ),
    "a login shell prints": "api/v1::a_chatty_login_is_noticed api/v1::noise_on_stderr_is_named",
    "status pages are old": "api/v1::file_systems_by_name",
    "tasks hang, and hold secrets": (
        "api/v1::a_task_that_never_ends api/v1::certificates_in_lists_of_tasks_are_never_logged"
    ),
    "submissions leave directories": "api/v1::a_script_that_runs_elsewhere",
    "a job's paths are cut": "api/typed::paths_of_outputs_are_whole",
    "accounting is behind": "api/v1::a_job_that_has_just_started_has_its_name",
    "other object stores": (
        "api/v1_sites::the_older_kind_of_s3_gets_the_bare_bytes"
        " api/v1_sites::swift_never_shows_an_empty_file"
        " api/v1_sites::a_site_without_an_object_store_says_so"
    ),
}
V2 = {
    "listing times have no zone": "api/zone::a_summer_and_a_winter_tell_the_zone",
    "two writes in a second look alike": (
        "fs/attributes::the_time_that_was_shown_stays_after_the_store"
    ),
    "listings have names of owners": "api/typed::list api/decode::owners_by_name_have_no_number",
    "permissions have a tenth character": (
        "api/decode::permissions unit/identity::an_acl_mark_lets_through"
    ),
    "hidden files are left out": "fs/attributes::a_hidden_file_keeps_its_directory",
    "dangling links break dereferenced listings": "fs/links::links_of_the_cluster",
    "a link to a directory is one entry": "api/typed::list_of_what_is_no_directory",
    "an entry vanishes during a listing": (
        "api/typed::an_entry_that_vanishes_meanwhile_does_not_hide_the_directory"
        " api/typed::a_directory_that_keeps_changing_is_no_missing_one"
    ),
    "no readlink": "api/typed::readlink api/decode::the_length_of_a_link_tells_its_text",
    "no access": "fs/errors::files_of_others unit/identity::every_mode_grants_what_it_says",
    "others change files": "fs/consistency::changes_of_others_are_seen_after_the_ttl",
    "a download is of the whole file, three quarters of the limit": (
        "api/typed::the_download_limit fs/reading::the_largest_file_of_one_request"
    ),
    "ranges are text": "api/typed::view_is_exact_or_refuses api/typed::view_never_lies",
    "white space can't be staged": "api/objects::what_cannot_be_staged",
    "empty files can't be staged": "tutorial::10_an_empty_file",
    "checksums of names with spaces": "api/typed::checksums_of_any_name",
    "uploads truncate and follow links": "unit/engine::a_torn_upload_of_ours_is_no_conflict",
    "renaming is a job that may succeed without effect": (
        "fs/rename::wherever_a_rename_fails_nothing_is_lost api/objects::moves_that_fail"
        " api/typed::rename_is_refused_before_any_request"
    ),
    "removing is recursive, with a slash also of a link's target": (
        "api/typed::remove_never_empties_what_a_link_points_to"
    ),
    "an empty upload hangs": (
        "unit/engine::an_empty_file_is_no_empty_upload fs/writing::empty_files"
    ),
    "mode and time are lost": (
        "fs/attributes::the_mode_of_a_new_file fuse/programs::cp_p_of_one_file"
    ),
    "relative links are refused": (
        "api/typed::targets_that_want_the_tar_route fs/links::a_link_made_here_keeps_its_text"
    ),
    "a link lands inside a directory": "api/typed::a_link_that_landed_inside_a_directory_is_undone",
    "a staged upload reports success in any case": "api/objects::a_target_that_vanishes",
    "what was written may not be readable": "fs/attributes::a_secret_is_never_readable_for_others",
    "logs are left": "tutorial::17_what_the_transfers_leave fs/names::names_of_the_machinery",
    "quotes break out of the command": (
        "api/typed::a_quote_never_reaches_the_server api/names::nothing_gets_out_of_the_quotes"
    ),
    "tar replaces what is there": (
        "unit/engine_batches::a_name_taken_meanwhile_is_a_conflict_in_a_batch_too"
        " unit/engine::emptying_a_file_with_two_names_empties_both"
    ),
    "where linking is refused, tar has unlinked before": (
        "unit/bundle::a_link_that_is_refused_after_tar_has_unlinked_the_target"
    ),
    "archives may be left": "unit/bundle::an_archive_that_could_not_be_removed_is_swept_later",
    "401 during long work": "api/typed::tokens_that_expire_in_the_middle",
    "tokens with seconds to live are refused": "api/typed::short_lived_tokens",
    "presigned links are secrets and want no token": (
        "api/objects::nothing_is_logged tutorial::14_logging"
    ),
    "503 outlasts the trouble": "api/session::an_unhealthy_system_is_not_asked_again",
    "a login shell prints": "api/typed::what_a_login_shell_prints_never_becomes_content",
    "every call is a process": (
        "unit/flights::equal_calls_are_one fs/budgets::copying_many_files_into_the_mount"
    ),
    "a connection is reset after an unhandled error": (
        "api/session::idle_connections_closed_by_the_server_do_not_show"
    ),
    "zero bytes of a head are ten lines": "api/typed::head_and_tail",
    "a missing file's kind is told with 200": "api/client::files",
    "an ingress job looks once a minute": "emulator/transfer::an_upload_lands_at_the_next_look",
    "a job's paths are cut": "api/typed::paths_of_a_script_on_the_cluster_are_whole",
    "accounting is behind": "api/newjobs::what_was_submitted_is_known",
    "some ends of jobs have words behind them": "api/decode::states",
    "names are escaped by locale": "api/typed::names_with_the_same_spelling_are_told_apart",
}


@functools.cache
def names_in(module: str) -> frozenset[str]:
    """Return the names of the tests in `DIR/MODULE`, without what they begin with."""
    directory, _, name = module.rpartition("/")
    path = TESTS / directory / (f"test_{name}.py" if directory else f"{name}.py")
    return frozenset(re.findall(r"^ *def test_(\w+)\(", path.read_text(), re.MULTILINE))


@pytest.mark.parametrize(("trap", "tests"), [*V1.items(), *V2.items()])
def test_every_trap_has_a_test(trap: str, tests: str) -> None:
    assert tests
    for each in tests.split():
        module, _, name = each.partition("::")
        assert name in names_in(module), f"{trap}: {each} is gone; what holds it now?"
