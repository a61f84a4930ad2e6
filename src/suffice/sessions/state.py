"""What is remembered of one agent of a session between two requests: under a kilobyte."""

from msgspec import Struct
from msgspec.structs import replace


class AgentTurn(Struct, frozen=True, kw_only=True):
    """One request of an agent, before it is sent.

    `time_s` is the time of the request in seconds; `idle_s` the seconds since the agent's last
    answer, where the client says so. `prompt_tokens` counts the whole prompt, and `shared_tokens`
    its beginning that the last request of the agent had too; None where nobody knows, and then the
    whole last prompt counts as shared. `in_tool_loop` says that the prompt ends in results of tools
    that the model called.
    """

    time_s: float
    prompt_tokens: int
    shared_tokens: int | None = None
    idle_s: float | None = None
    in_tool_loop: bool = False


class Prefix(Struct, frozen=True, array_like=True):
    """What the cache of one rung may hold of an agent: the last prompt it read, and when."""

    prompt_tokens: int
    time_s: float


class AgentState(Struct, frozen=True, kw_only=True):
    """One agent of a session: the rung it holds, and the prefixes that caches may hold of it.

    `escalated` says that the session was moved up once; it is not moved up again. `passed` is what
    the operator's checks said of the last answer; None where they said nothing, or had not to.
    """

    rung: str
    turns: int
    time_s: float
    prompt_tokens: int
    prefixes: dict[str, Prefix]
    escalated: bool = False
    passed: bool | None = None

    def warm_tokens(self, rung: str, turn: AgentTurn, *, cache_life_s: float) -> int:
        """Count the tokens of a prompt that the cache of a rung still holds, at most."""
        prefix = self.prefixes.get(rung)
        if prefix is None or self.idle_s(prefix.time_s, turn) > cache_life_s:
            return 0
        shared = turn.prompt_tokens if turn.shared_tokens is None else turn.shared_tokens
        return min(shared, prefix.prompt_tokens, turn.prompt_tokens)

    def idle_s(self, since_s: float, turn: AgentTurn) -> float:
        """Return how long a cache was not read; a clock that runs back counts as no pause."""
        idle_s = 0.0 if turn.idle_s is None else turn.idle_s
        return max(0.0, turn.time_s - since_s, idle_s)


def after(
    state: AgentState | None,
    turn: AgentTurn,
    *,
    rung: str,
    escalated: bool = False,
    passed: bool | None = None,
) -> AgentState:
    """Return the state of an agent once a rung has answered a turn of it."""
    prefix = Prefix(turn.prompt_tokens, turn.time_s)
    if state is None:
        return AgentState(
            rung=rung,
            turns=1,
            time_s=turn.time_s,
            prompt_tokens=turn.prompt_tokens,
            prefixes={rung: prefix},
            escalated=escalated,
            passed=passed,
        )
    return replace(
        state,
        rung=rung,
        turns=state.turns + 1,
        time_s=max(state.time_s, turn.time_s),
        prompt_tokens=turn.prompt_tokens,
        prefixes={**state.prefixes, rung: prefix},
        escalated=state.escalated or escalated,
        passed=passed,
    )
