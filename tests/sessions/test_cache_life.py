"""How long a cache lives, by what the request says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suffice.sessions.cache_life import cache_life_of

HOUR = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
SHORT = {"cache_control": {"type": "ephemeral", "ttl": "5m"}}


@pytest.mark.parametrize(
    ("fields", "life_s"),
    [
        ({}, 200.0),
        (HOUR, 3600.0),
        ({"system": [SHORT]}, 300.0),
        ({"system": [HOUR], "messages": [{"content": [SHORT]}]}, 3600.0),
        ({"tools": [HOUR]}, 3600.0),
        ({"messages": [{"content": "plain"}, {"content": [{"text": "x"}, HOUR]}]}, 3600.0),
        ({"prompt_cache_retention": "24h"}, 86_400.0),
        ({"prompt_cache_retention": ["24h"], "system": "text", "messages": [3]}, 200.0),
        ({"cache_control": {"ttl": "1y"}}, 200.0),
    ],
)
def test_the_longest_life_that_is_asked_for_counts(
    fields: dict[str, object], life_s: float
) -> None:
    assert cache_life_of(fields, default_s=200.0) == life_s


@given(
    st.dictionaries(st.sampled_from(["system", "tools", "messages", "cache_control"]), st.text())
)
def test_any_body_has_a_life(fields: dict[str, object]) -> None:
    assert cache_life_of(fields, default_s=200.0) == 200.0
