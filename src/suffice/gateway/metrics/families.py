"""Every metric that the gateway exposes: name, kind, meaning, labels, buckets; see docs/metrics.md.

A label `known` says how an amount of dollars is known: `reported` or `estimated`; unknown amounts
add no dollars and are counted apart. `vector` is what saved, `none` where the reference answered.
"""

from typing import Literal

from msgspec import Struct

Kind = Literal["counter", "gauge", "histogram"]

# The buckets that the OpenTelemetry GenAI conventions advise.
_TOKENS = tuple(float(4**power) for power in range(14))
_DURATION_S = tuple(0.01 * 2**power for power in range(14))
_FIRST_TOKEN_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1),
    *(0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
_PER_TOKEN_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)

_LAG_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_DECISION_S = (25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 50e-3)


class Family(Struct, frozen=True, kw_only=True):
    """One metric; `buckets` are upper bounds, ascending, of a histogram."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


def _counter(name: str, text: str, *labels: str) -> Family:
    return Family(name=name, kind="counter", help=text, labels=labels)


def _gauge(name: str, text: str, *labels: str) -> Family:
    return Family(name=name, kind="gauge", help=text, labels=labels)


def _histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...]) -> Family:
    return Family(name=name, kind="histogram", help=text, labels=labels, buckets=buckets)


TOKEN_USAGE = _histogram(
    "gen_ai_client_token_usage", "Tokens of one call to an engine, by how they are known.",
    "rung", "gen_ai_token_type", "source", buckets=_TOKENS,
)  # fmt: skip
CALL_SECONDS = _histogram(
    "gen_ai_client_operation_duration_seconds", "Seconds of one call to an engine.",
    "rung", "role", buckets=_DURATION_S,
)  # fmt: skip
REQUEST_SECONDS = _histogram(
    "gen_ai_server_request_duration_seconds", "Seconds from a request's arrival to its last byte.",
    "rung", "status", buckets=_DURATION_S,
)  # fmt: skip
FIRST_TOKEN_SECONDS = _histogram(
    "gen_ai_server_time_to_first_token_seconds", "Seconds from a request's arrival to its first "
    "token.", "rung", buckets=_FIRST_TOKEN_S,
)  # fmt: skip
PER_TOKEN_SECONDS = _histogram(
    "gen_ai_server_time_per_output_token_seconds", "Seconds per output token after the first.",
    "rung", buckets=_PER_TOKEN_S,
)  # fmt: skip

REQUESTS = _counter(
    "suffice_requests_total", "Requests that ended; rung `none` gave no answer.", "rung", "status"
)
ERRORS = _counter(
    "suffice_error_responses_total", "Requests that were answered with an error.", "code"
)
UNBOOKED = _counter(
    "suffice_unbooked_requests_total", "Requests that the ledger would not take, and never will."
)
CALLS = _counter("suffice_calls_total", "Calls to engines.", "rung", "role", "outcome")
HEDGES = _counter(
    "suffice_hedges_total", "Second calls to a rung that was slow to begin.", "rung", "outcome"
)
FALLBACKS = _counter(
    "suffice_fallbacks_total", "Requests that the policy was not allowed to choose for.", "reason"
)
DECISION_SECONDS = _histogram(
    "suffice_decision_seconds", "Seconds that the policy took to choose a rung.",
    buckets=_DECISION_S,
)  # fmt: skip

CHARGE_USD = _counter(
    "suffice_charge_usd_total", "Dollars that serving cost, audits not included.", "vector", "known"
)
CHARGE_UNKNOWN = _counter(
    "suffice_charge_unknown_total", "Requests whose charge is unknown.", "vector"
)
REFERENCE_USD = _counter(
    "suffice_reference_usd_total", "Dollars that the reference rung alone would have cost.",
    "vector", "known",
)  # fmt: skip
REFERENCE_UNKNOWN = _counter(
    "suffice_reference_unknown_total", "Requests whose reference cost is unknown.", "vector"
)
SAVING_USD = _gauge(
    "suffice_saving_usd", "Reference cost less charge since the start, where both are known; "
    "it falls when an answer cost more.", "vector", "known",
)  # fmt: skip
AUDIT_USD = _counter("suffice_audit_charge_usd_total", "Dollars that audits cost.", "known")
AUDIT_UNKNOWN = _counter("suffice_audit_charge_unknown_total", "Audits of unknown charge.")

SHADOW_USD = _counter("suffice_shadow_charge_usd_total", "Dollars that shadows cost.", "known")
SHADOW_UNKNOWN = _counter(
    "suffice_shadow_charge_unknown_total", "Calls of shadows of unknown charge."
)
LOST_SHADOWS = _counter(
    "suffice_lost_shadows_total", "Shadows that load or an error took.", "reason"
)
LOST_AUDITS = _counter(
    "suffice_lost_audits_total", "Audits that a full line or an error took.", "reason"
)

GUARD_AUDITS = _gauge("suffice_guard_audits", "Audits the guard has bet on.", "group")
GUARD_LOSSES = _gauge("suffice_guard_losses", "Sum of their losses.", "group")
GUARD_WEALTH = _gauge("suffice_guard_wealth", "Evidence that the risk passed alpha.", "group")
GUARD_LIMIT = _gauge("suffice_guard_wealth_limit", "Wealth that raises the alarm.", "group")
GUARD_ALARM = _gauge("suffice_guard_alarm", "1 once the alarm has fallen, for good.", "group")
GUARD_UNLABELLED = _gauge("suffice_guard_unlabelled_audits", "Audits that got no label in time.")
GUARD_BLIND = _gauge("suffice_guard_blind", "1 while audits come and no label does.")
AUDITS_PAUSED = _gauge("suffice_audits_paused", "1 while the day's audit budget is spent.")
LAPSES = _gauge(
    "suffice_certificate_lapses_timestamp_seconds", "When the certificate lapses, since 1970.",
    "certificate",
)  # fmt: skip

QUEUED = _gauge("suffice_queued_requests", "Requests that wait for a place.", "rung")
IN_FLIGHT = _gauge("suffice_inflight_requests", "Requests that an engine works on.", "rung")
CIRCUIT = _gauge("suffice_circuit_state", "0 closed, 1 half open, 2 open.", "rung")
LOOP_LAG = _histogram(
    "suffice_loop_lag_seconds", "Seconds by which the event loop was late.", buckets=_LAG_S
)
HEARTBEAT = _gauge("suffice_heartbeat_age_seconds", "Seconds since a watch came round.", "watch")
UPKEEP_ERRORS = _counter("suffice_upkeep_errors_total", "Turns of a watch that failed.", "watch")
RELOAD_FAILING = _gauge("suffice_reload_failing", "1 while changed files cannot be taken over.")
PUBLISHED = _gauge("suffice_worker_published_timestamp_seconds", "When the worker last published.")

FAMILIES = (
    TOKEN_USAGE, CALL_SECONDS, REQUEST_SECONDS, FIRST_TOKEN_SECONDS, PER_TOKEN_SECONDS,
    REQUESTS, ERRORS, UNBOOKED, CALLS, HEDGES, FALLBACKS, DECISION_SECONDS,
    CHARGE_USD, CHARGE_UNKNOWN, REFERENCE_USD, REFERENCE_UNKNOWN, SAVING_USD,
    AUDIT_USD, AUDIT_UNKNOWN, LOST_AUDITS, SHADOW_USD, SHADOW_UNKNOWN, LOST_SHADOWS,
    GUARD_AUDITS, GUARD_LOSSES, GUARD_WEALTH, GUARD_LIMIT, GUARD_ALARM, GUARD_UNLABELLED,
    GUARD_BLIND, AUDITS_PAUSED, LAPSES, QUEUED, IN_FLIGHT, CIRCUIT,
    LOOP_LAG, HEARTBEAT, UPKEEP_ERRORS, RELOAD_FAILING, PUBLISHED,
)  # fmt: skip
