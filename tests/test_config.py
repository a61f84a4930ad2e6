from decimal import Decimal
from pathlib import Path

import pytest

from suffice.config import load_config, parse_config
from suffice.errors import ConfigError
from suffice.types import Effort

GOOD = """
reference = "high"

[engine.local]
kind = "openai"
url = "http://127.0.0.1:8000/v1"
dialect = "vllm"
timeout_s = 3.5

[price.own]
input_usd_per_mtok = 0.15
output_usd_per_mtok = "0.60"

[targets]
alpha = 0.02

[[ladder]]
name = "low"
engine = "local"
model = "m"
effort = "low"
params = { temperature = 0.7 }

[[ladder]]
name = "high"
engine = "local"
model = "m"
effort = "high"
price = "own"
"""


def test_a_good_file_becomes_frozen_values() -> None:
    config = parse_config(GOOD)
    assert [rung.name for rung in config.ladder] == ["low", "high"]
    assert config.ladder[0].effort is Effort.LOW
    assert config.ladder[0].params == {"temperature": 0.7}
    assert config.price["own"].input_usd_per_mtok == Decimal("0.15")
    assert config.targets.alpha == 0.02
    assert config.targets.delta == 0.1


@pytest.mark.parametrize(
    ("old", "new", "place", "hint"),
    [
        ("alpha =", "alhpa =", "targets.alhpa", "did you mean 'alpha'?"),
        ("timeout_s", "timeout", "engine.local.timeout", "did you mean 'timeout_s'?"),
        ("reference =", "referenc =", "referenc", "did you mean 'reference'?"),
        ("params =", "parms =", "ladder[0].parms", "did you mean 'params'?"),
        ("input_usd_per_mtok", "input_usd", "price.own.input_usd", "input_usd_per_mtok"),
        ('reference = "high"', 'reference = "hihg"', "reference", "did you mean 'high'?"),
        ('price = "own"', 'price = "owm"', "ladder[1].price", "did you mean 'own'?"),
        ('engine = "local"', 'engine = "locla"', "ladder[0].engine", "did you mean 'local'?"),
    ],
)
def test_a_misspelt_name_is_refused_with_its_path_and_the_nearest(
    old: str, new: str, place: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(GOOD.replace(old, new, 1))
    assert place in caught.value.message
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ('effort = "low"', 'effort = "lo"', "ladder[0].effort"),
        ("timeout_s = 3.5", 'timeout_s = "soon"', "engine.local.timeout_s"),
        ('kind = "openai"', 'kind = "opnai"', "engine.local.kind"),
        ("alpha = 0.02", "alpha = 1.5", "targets.alpha"),
        ("alpha = 0.02", 'lapses_after = "soon"', "targets.lapses_after"),
        ('name = "low"', 'name = "high"', "two rungs are named"),
        ("input_usd_per_mtok = 0.15", "input_usd_per_mtok = -1", "price.own.input_usd_per_mtok"),
        ("[targets]", "targets = 3\n[unused]", "targets"),
        ("[targets]", "[gateway]\nhedge_after_s = {hi = 1}\n[targets]", "gateway.hedge_after_s"),
        ("[targets]", "[gateway]\nhedge_after_s = {high = 0}\n[targets]", "hedge_after_s.high"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path(old: str, new: str, place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(GOOD.replace(old, new, 1).replace("[unused]\nalpha = 0.02", ""))
    assert place in caught.value.message
    assert caught.value.hint


def test_broken_toml_says_where() -> None:
    with pytest.raises(ConfigError, match="line 2"):
        parse_config("reference = 'x'\n[engine = 3\n")


def test_a_missing_file_says_how_to_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file") as caught:
        load_config(tmp_path / "suffice.toml")
    assert "suffice init" in (caught.value.hint or "")


LATENT = (
    GOOD.replace('kind = "openai"', 'kind = "latent"', 1)
    .replace('url = "http://127.0.0.1:8000/v1"\ndialect = "vllm"\n', 'model_path = "folder"\n')
    .replace('effort = "low"\nparams = { temperature = 0.7 }', 'vector = "paradigm"')
    .replace('engine = "local"\nmodel = "m"\neffort = "high"', 'engine = "big"\nmodel = "m"')
    + '[engine.big]\nkind = "embedded"\n'
)


def test_a_latent_rung_saves_by_not_decoding_and_is_no_reference() -> None:
    assert parse_config(LATENT).engine["local"].kind == "latent"
    with pytest.raises(ConfigError, match="may abstain"):
        parse_config(LATENT.replace('reference = "high"', 'reference = "low"'))
    with pytest.raises(ConfigError, match=r"ladder\[0\].vector"):
        parse_config(LATENT.replace('"paradigm"', '"output"'))


@pytest.mark.parametrize("rate", ["0.00000015", '"1.5e-7"', "150000"])
def test_a_price_of_one_token_is_not_taken_for_one_of_a_million(rate: str) -> None:
    with pytest.raises(ConfigError, match=r"price\.own\.input_usd_per_mtok") as caught:
        parse_config(GOOD.replace("input_usd_per_mtok = 0.15", f"input_usd_per_mtok = {rate}"))
    assert "1000000" in str(caught.value.hint)


def test_free_tokens_have_a_price_of_0() -> None:
    config = parse_config(GOOD.replace("input_usd_per_mtok = 0.15", "input_usd_per_mtok = 0"))
    assert config.price["own"].input_usd_per_mtok == 0
