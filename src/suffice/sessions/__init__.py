"""Sessions: who a request belongs to, where a choice may change, and whether a switch pays.

A coding agent sends its whole history with every request. The engine keeps that prefix in a cache,
and reads it for a tenth of the price. A switch in the middle of a session loses the cache, and
often costs more than the cheaper rung saves. So a session holds its rung between boundaries.
"""

from suffice.sessions.boundary import Boundary, boundary_of
from suffice.sessions.choice import Choice, SessionOutlook, choose
from suffice.sessions.rates import TokenRates
from suffice.sessions.state import AgentState, AgentTurn, Prefix, after

__all__ = [
    "AgentState",
    "AgentTurn",
    "Boundary",
    "Choice",
    "Prefix",
    "SessionOutlook",
    "TokenRates",
    "after",
    "boundary_of",
    "choose",
]
