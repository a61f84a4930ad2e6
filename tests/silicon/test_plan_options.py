"""Options of `suffice plan`: what they read, and what they refuse with a hint."""

import pytest
from typer.testing import CliRunner

from suffice.cli.plan_options import (
    parse_adapters,
    parse_day,
    parse_speculation,
    parse_stock,
    parse_workload,
)
from suffice.errors import InputError
from suffice.silicon.catalog import catalogue


def test_a_workload_takes_its_own_hit_rate_before_the_common_one():
    assert parse_workload("in=10,out=5,hit=0.25", cache_hit=0.9).cache_hit == 0.25
    assert parse_workload("in=10,out=5", cache_hit=0.9).cache_hit == 0.9
    assert parse_workload("in=10,out=5,hit=0").cache_hit == 0


def test_a_draft_is_heads_a_cost_or_a_model():
    assert parse_speculation("tokens=2,accept=0.8").draft_cost is None
    assert parse_speculation("tokens=2,accept=0.8,draft=0.1").draft_cost == 0.1
    assert parse_speculation("tokens=2,accept=0.8,draft=llama-3-8b").draft.name == "llama-3-8b"


def test_adapters_days_and_stock_are_read():
    assert (parse_adapters("count=3,rank=8").count, parse_adapters("count=3,rank=8").rank) == (3, 8)
    assert parse_day("1, 2.5,0") == (1.0, 2.5, 0.0)
    assert parse_stock("H100=8, b200=4", known=catalogue()) == {"h100": 8, "b200": 4}


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (parse_workload, "in=10,out=5,hit=1.5"),
        (parse_workload, "in=10,out=5,hit=90%"),
        (parse_speculation, "tokens=2"),
        (parse_speculation, "tokens=two,accept=0.5"),
        (parse_speculation, "tokens=2,accept=0.5,draft=nothing-like-it"),
        (parse_adapters, "count=3"),
        (parse_adapters, "count=3,rank=x"),
        (parse_day, "1,two"),
        (parse_day, "1,-2"),
        (parse_day, "nan,2"),
        (lambda text: parse_stock(text, known=catalogue()), "h100"),
        (lambda text: parse_stock(text, known=catalogue()), "h100=0"),
        (lambda text: parse_stock(text, known=catalogue()), "h100=2.5"),
        (lambda text: parse_stock(text, known=catalogue()), "h101=2"),
    ],
)
def test_options_that_cannot_be_right_are_refused(read, text):
    with pytest.raises(InputError) as refusal:
        read(text)
    assert refusal.value.hint


def test_a_plan_of_several_workloads_prints_what_each_costs():
    from suffice.cli.main import make_app

    arguments = "plan --model llama-3-8b --chips h100,h200 --workload in=500,out=500,rps=30"
    arguments += " --workload in=8000,out=200,rps=10,hit=0.9 --day 5,40,20 --stock h100=64"
    result = CliRunner().invoke(
        make_app(), [*arguments.split(), "--speculate", "tokens=2,accept=0.7,draft=0.05"]
    )
    assert result.exit_code == 0, result.output
    for words in ("$ a request", "over a day", "from stock", "tokens a step", "prefix cache"):
        assert words in result.output
