//! How proxies of this kind failed, and what excludes it here.
//!
//! Each row is a public bug of some proxy, driver or server, or an attack; the middle says what
//! works against it, and the last names a test (modules of [`super::session`] unless said
//! otherwise). Two rules cover most: a session changes, withholds or invents a message only where a
//! decision says so, and what an answer means is decided by the oldest message that is owed one.
//!
//! # Framing
//!
//! | Failure | Mechanism | Test |
//! | --- | --- | --- |
//! | bytes in the clear behind a request for TLS are taken as if they had come inside it (CVE-2021-23214, CVE-2021-3935) | [`BytesFault::Stuffed`] | `startup::encryption_is_asked_for_once_of_each_kind_with_nothing_behind` |
//! | a length wraps or is negative, and data becomes messages (CVE-2024-27304, CVE-2026-6664) | lengths are `u32`, checked against the server's own limits; no arithmetic but on checked values | `simple::lengths_outside_the_servers_limits_end_the_session` |
//! | memory is reserved for what a header claims | nothing is; counts are checked against the body | `frontend::counts_are_checked_against_the_body`, `bounds::large_copy_data_and_rows_are_never_held` |
//! | a text behind an embedded zero is audited or decided upon while the server reads the one in front | a `Query` is exactly one string; anything else is flagged and must fail | `simple::text_behind_a_zero_is_never_taken_for_the_statement` |
//! | a message split over two reads, or several in one, confuses the count of answers | framing on a byte stream | `properties::every_single_split_is_as_at_once` |
//! | an unknown message type is waited out for ever | it ends the session, as on the server | `simple::messages_in_front_of_a_bad_one_are_released_first` |
//! | startup parameters that two readers read differently | duplicates and control characters are refused | `startup::refuses_parameters_that_two_readers_may_read_differently` |
//! | an old server that cannot fork answers in protocol 2 | it passes unread | `handshake::tests::error_of_protocol_2_passes_unread` |
//!
//! # Authentication
//!
//! | Failure | Mechanism | Test (of [`super::scram`] unless said otherwise) |
//! | --- | --- | --- |
//! | a short first message is cut beyond its end (a public comma underflow) | attributes are read by a bounded reader; the end is a value | `hostile_client::commas_without_attributes_are_refused`, `hostile_client::every_first_message_cut_short_is_refused_or_fails_later` |
//! | a length in a SCRAM packet wraps (CVE-2026-6664) | one limit for each message, nonce and salt, before anything is read | `hostile_client::lengths_are_bounded` |
//! | a long nonce of the server overflows the last message (CVE-2026-6665) | its length is checked, the message is built from what it is | `hostile_server::lengths_are_bounded` |
//! | iterations in 16 bits | 32 bits, with a floor and a ceiling | `hostile_server::iterations_have_a_floor_and_a_ceiling` |
//! | a server asks for one iteration and guesses the password from the proof | floor of 4096 | `hostile_server::iterations_have_a_floor_and_a_ceiling` |
//! | the mechanism with channel binding is taken out of the offer and nobody notices | flag `y` is refused where it was offered, and the flag is signed | `hostile_client::refuses_a_stripped_plus` |
//! | `p=` passes although the data behind it is not compared | `c=` is compared as a whole | `hostile_client::binding_to_another_connection_is_refused` |
//! | a proof is taken twice | an exchange is given up with its last message; the nonce is compared as a whole | `hostile_client::refuses_a_replayed_proof` |
//! | an unknown user fails at another point, or in another time | a mock verifier, with a salt of its own that stays | `hostile_client::wrong_password_and_unknown_user_fail_alike`, `hostile_client::salt_of_an_unknown_user_is_stable_and_looks_like_any` |
//! | the name in the SCRAM message is checked, or believed | it is not looked at | `hostile_client::unknown_attributes_are_ignored_and_known_ones_come_once` |
//! | the client's side takes an `AuthenticationOk` for an answer without the server's signature | the exchange ends well only with it | `hostile_server::server_must_prove_itself` |
//! | passwords beyond ASCII have other keys than on the server | SASLprep in the server's order, with its exceptions | `vectors::verifiers_of_postgresql_are_read_and_written_and_accept_their_passwords`, `saslprep::prohibited_is_what_was_typed_not_what_it_becomes` |
//! | `options` sets more than a search for `-c` finds | read as the server's `getopt` does | `startup::options::every_way_to_write_a_setting_is_seen` |
//!
//! # Order of messages
//!
//! | Failure | Mechanism | Test |
//! | --- | --- | --- |
//! | an error without `Sync` is held back | everything passes at once | `extended::error_without_sync_reaches_the_client_at_once` |
//! | a `Query` behind a failed extended message overtakes it or hangs | order is kept; the server skips it too | `extended::everything_up_to_sync_is_skipped_even_a_simple_query` |
//! | several `Sync` in a pipeline | each owes one answer | `extended::each_sync_of_a_pipeline_has_its_answer` |
//! | `Flush` is dropped | it is just passed | `extended::flush_between_messages_is_just_passed` |
//! | a suspended portal is taken for the end of a request | `PortalSuspended` ends one `Execute` | `extended::suspended_portal_goes_on` |
//! | notices, settings and notifications at odd times | they answer nothing | `simple::messages_of_the_server_come_at_any_time` |
//! | `FunctionCall` is not understood | it is a statement like others | `simple::function_call_is_reported_with_its_number_and_arguments` |
//! | both directions full: the proxy reads neither, or grows | answers owed are bounded; the directions share no buffer | `bounds::answers_owed_are_bounded_and_free_what_waits` |
//! | a limit on a pipeline waits for answers that the server keeps in its buffer | the limit is above what fits there | `codec::ANSWERS_OWED_MIN` |
//!
//! # Refusals
//!
//! | Failure | Mechanism | Test |
//! | --- | --- | --- |
//! | a refusal is answered by the proxy while the server's transaction stays good, and is committed | the server gets a statement that fails | `model::refusals_are_what_the_server_would_say` |
//! | a `Sync` of the proxy's own ends the client's pipeline early | none is sent, but behind a question of its own | `extended::each_sync_of_a_pipeline_has_its_answer`, `ask::question_and_answer_are_invisible_and_what_the_client_sends_waits` |
//! | parameters of a refused statement reach the server with its `Bind` | it is decided first, and replaced | `refusal::statements_decided_under_another_epoch_are_decided_again_at_bind_and_describe` |
//! | a name falls back to an older statement because what redefines it fails, and that runs undecided | it is waited for | `refusal::execution_waits_while_an_answer_decides_what_it_runs` |
//! | the error of another statement is shown as the refusal | code and column name of the poison are compared | `refusal::error_of_a_statement_in_front_is_its_own_even_with_the_same_code` |
//! | the poison is shadowed, and succeeds | a column without a relation; success ends the session | `refusal::success_in_the_place_of_a_refused_statement_ends_the_session` |
//! | a result that was cut passes for the whole | it ends in an error, or the session does | `ceiling::result_that_was_cut_is_never_shown_as_complete` |
//! | a cancel hits the next statement | nothing passes until it is sent | `ceiling::exactly_as_many_rows_pass_and_the_cancel_is_explained` |
//!
//! Not excluded: where a client pipelines, what is behind a statement is with the server already,
//! and a cancel that comes late hits that.
//!
//! # COPY
//!
//! | Failure | Mechanism | Test |
//! | --- | --- | --- |
//! | a `Sync` inside COPY data is thought to owe an answer | the COPY takes it | `copy::early_sync_in_extended_copy_in_owes_no_answer` |
//! | a failed COPY is followed by the client's late data | passed, and dropped by the server | `copy::simple_copy_in_that_fails_drops_what_is_still_sent` |
//! | COPY OUT in the middle of a `Query`, several COPYs in one | each ends with its own tag | `copy::copy_out_in_the_middle_of_a_query`, `copy::several_copies_in_one_query_each_end_with_their_tag` |
//! | replication is taken for an ordinary session | both streams pass | `copy::replication_streams_both_ways_and_goes_on` |
//! | a failed COPY whose data held a `Sync` leaves open whether the next request ran or was skipped | nothing may follow that depends on it | `copy::fate_of_a_request_never_hangs_on_a_doubtful_sync` |
//!
//! # Names
//!
//! | Failure | Mechanism | Test |
//! | --- | --- | --- |
//! | a statement that failed to be prepared lends its text to one that runs | names change when the server says so | `extended::failed_parse_leaves_the_old_statement` |
//! | names are rewritten and `Close` then `Bind` still works | names are never rewritten | `extended::closed_statement_is_replaced_and_its_portals_keep_the_old_text` |
//! | two names that the server takes for one | keyed by the bytes it reads, known only when equal as a whole | `extended::names_alike_in_what_the_server_reads_lend_no_text_to_each_other` |
//! | SQL drops a prepared statement and gives its name away | entries become unknown | `extended::name_that_sql_gave_away_loses_its_text` |
//! | a portal outlives its transaction | gone with the first idle `ReadyForQuery` | `extended::portals_end_with_their_transaction` |
//!
//! Not excluded: a `DO` block or function that runs `DEALLOCATE` and `PREPARE` (or `CLOSE` and
//! `OPEN` of a portal) for a name the client had given by protocol. It has no tag of its own; the
//! block is reported with its own text, what runs under the name afterwards with the old one.
//!
//! # Handshake
//!
//! | Failure | Mechanism | Test (of [`super::handshake`] unless said otherwise) |
//! | --- | --- | --- |
//! | bytes in the clear behind the server's answer to a request for TLS are taken as if they had come inside it (CVE-2021-23222) | the answer is read alone; anything behind it ends the connection | `hostile_servers_get_nothing_from_the_agent` (package `tests`) |
//! | an error in the clear, in place of the answer, is shown as the server's (CVE-2024-10977) | the client hears that the server refused, not its words | - |
//! | messages sent ahead of the login run before it, or on somebody else's behalf | only this machine writes to the server, and a session asks for [`Authenticated`] | `nothing_of_an_application_reaches_the_server_before_it_is_proven`, `answer_sent_ahead_waits_until_it_is_asked_for` |
//! | a server asks for a clear-text or MD5 password, and the client sends it | refused before the application is asked | `weak_methods_are_refused_before_the_application_is_asked` |
//! | a server says `AuthenticationOk` in the middle of SCRAM and is believed | the signature comes first, relayed or not | `server_that_accepts_before_it_proved_itself_is_left` |
//! | a server changes the method under way | what it asked for first counts | `method_cannot_change_under_way` |
//! | relayed over two TLS connections, the offer of channel binding is passed on, or cut and the login fails at the server without a reason | cut; the flag that would fail is refused with the setting to add | `relayed_scram_loses_what_binds_and_passes_byte_for_byte`, `relayed_over_two_channels_is_refused_with_the_setting_to_add` |
//! | a certificate whose signature has no hash function (Ed25519): libpq fails | such are not made, and refused from files | `tls::tests::ca::loading_says_what_is_wrong` |
//! | startup parameters of a client reach the connection that reads verifiers (CVE-2025-12819) | its startup packet is the agent's own to the last byte, with a `search_path` | - |
//! | verifiers of roles that expired or may not log in are used (CVE-2025-2291) | the query leaves them out | - |
//! | a verifier is used that the server has replaced | the server's challenge is compared before the application is asked | `verifier_that_is_not_the_servers_is_asked_for_again_before_the_application_is` |
//! | agreed with the client on a version of the protocol that the server does not speak | the server is asked first, and its answer passed on; options are nobody's | `version_and_options_are_negotiated_with_each_side_alone` |
//! | records of TLS larger than what libpq reads at once leave bytes where no poll sees them, and it hangs | 8 KiB at most | `tls::tests::handshake::records_towards_clients_carry_eight_kibibytes_at_most` |
//! | direct TLS with a peer of another protocol (ALPACA) | ALPN is required on both legs | `tls::tests::handshake::direct_tls_needs_alpn`, `tls::tests::handshake::a_server_without_alpn_is_no_server_for_direct_tls` |
//! | keys of cancel requests are guessed | a failure counts, and everything is dropped for a while | `net::throttle::tests::slows_then_refuses_then_forgives` |
//!
//! Not excluded: an application that names the server to verify (SNI) and leads its address to a
//! server of its own has the agent log in there with the destination's account or lookup;
//! `server.name` with `verify-full` does exclude it.
//!
//! [`Authenticated`]: super::handshake::Authenticated
//! [`BytesFault::Stuffed`]: super::error::BytesFault::Stuffed
