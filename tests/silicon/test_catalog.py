"""Chips, models and prices: every value has a unit, a source and a date, and adds up."""

import datetime as dt
import math
import tomllib
from decimal import Decimal
from importlib import resources

import pytest

from suffice.errors import ConfigError, InputError, PriceError
from suffice.silicon import catalog, prices
from suffice.silicon.catalog import catalogue, find_chip, flops_per_s, parse_chips
from suffice.silicon.checkpoint.reader import shape_from_config
from suffice.silicon.models import built_in_shapes, find_shape, shape_from_file
from suffice.silicon.shapes import profile

WANTED_CHIPS = [
    "a100",
    "l40s",
    "h100",
    "h200",
    "b200",
    "b300",
    "gb200",
    "gb300",
    "mi300x",
    "mi325x",
    "mi355x",
    "gaudi3",
    "tpu-v5e",
    "tpu-v5p",
    "tpu-v6e",
    "tpu-v7",
    "trainium2",
    "trainium3",
    "mtia-300",
    "mtia-400",
    "mtia-450",
    "mtia-500",
    "l4",
    "gb10",
    "rubin",
    "mi455x",
    "tpu-8i",
]
WANTED_CHIPS += [
    "a100-pcie",
    "h100-pcie",
    "h100-nvl",
    "h200-nvl",
    "h20",
    "h800",
    "rtx-pro-6000",
    "mi350x",
    "trainium1",
    "inferentia2",
]
WANTED_MODELS = [
    "suffice-moe-13m",
    "mistral-small-4",
    "gpt-oss-20b",
    "gpt-oss-120b",
    "qwen3-32b",
    "qwen3-235b-a22b",
    "qwen3-30b-a3b",
    "qwen3-5-35b-a3b",
    "qwen3-5-122b-a10b",
    "qwen3-5-397b-a17b",
    "deepseek-v3",
    "deepseek-r1",
    "llama-3-8b",
    "llama-3-70b",
    "mixtral-8x7b",
    "olmoe-1b-7b",
]


def raw(name):
    return tomllib.loads(
        resources.files("suffice.silicon").joinpath(f"data/{name}").read_text("utf-8")
    )


@pytest.mark.parametrize("key", WANTED_CHIPS)
def test_chip_values_have_unit_source_and_date(key):
    chip, sources = find_chip(key), catalog.sources()
    assert {"bf16", "memory", "bandwidth"} <= chip.values.keys()
    for name, value in chip.values.items():
        assert value.unit == catalog.UNITS.get(name, "TFLOP/s")
        source = sources[value.source]
        assert source.title
        assert dt.date.fromisoformat(source.date) <= dt.date(2026, 11, 23)


def test_specifications_lie_in_the_range_of_real_chips():
    for chip in catalogue().values():
        assert 0.25e12 < chip.bandwidth.si < 30e12, chip.key
        assert 10e9 < chip.memory.si < 600e9, chip.key
        assert chip.bf16.si <= flops_per_s(chip, bits=8) <= flops_per_s(chip, bits=4), chip.key
        for measured, spec in ((chip.matmul_bf16, chip.bf16), (chip.matmul_fp8, chip.fp8)):
            assert measured is None or spec is None or measured.si <= spec.si, chip.key


def test_formats_that_a_chip_lacks_run_in_the_next_wider():
    assert flops_per_s(find_chip("h100"), bits=4.25) == find_chip("h100").fp8.si
    assert flops_per_s(find_chip("a100"), bits=8) == find_chip("a100").int8.si
    assert flops_per_s(find_chip("mi250"), bits=4) == find_chip("mi250").bf16.si


@pytest.mark.parametrize("key", ["mtia-300", "mtia-400", "mtia-450", "mtia-500"])
def test_mtia_has_no_price_and_says_what_is_assumed(key):
    assert all(prices.find_offer(key, kind=kind) is None for kind in prices.KINDS)
    assert find_chip(key).assumptions
    assert "no public" in find_chip(key).note


def entry(**changes):
    value = {"value": 1.0, "unit": "TFLOP/s", "source": "s"} | changes
    memory = {"value": 1.0, "unit": "GB", "source": "s"}
    rate = {"value": 1.0, "unit": "TB/s", "source": "s"}
    chip = {"title": "t", "vendor": "v", "bf16": value, "memory": memory, "bandwidth": rate}
    return {"source": {"s": {"title": "t", "date": "2026-01-01"}}, "chip": {"x": chip}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": "nobody"}, "no source"),
        ({"unit": "GFLOP/s"}, "unit"),
        ({"value": -1.0}, "not positive"),
        ({"low": 2.0, "high": 3.0}, "outside"),
    ],
)
def test_a_wrong_chip_entry_is_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        parse_chips(entry(**changes), where="x.toml")


def test_an_entry_without_a_source_field_or_with_an_unknown_one_is_refused():
    tree = entry()
    del tree["chip"]["x"]["bf16"]["source"]
    with pytest.raises(ConfigError, match="source"):
        parse_chips(tree, where="x.toml")
    tree = entry()
    tree["chip"]["x"]["speed"] = 3
    with pytest.raises(ConfigError, match="speed"):
        parse_chips(tree, where="x.toml")


def test_a_good_entry_is_read_and_an_unknown_chip_gets_a_hint():
    assert parse_chips(entry(), where="x.toml")["x"].bf16.si == 1e12
    with pytest.raises(InputError, match="h100"):
        find_chip("h10")


@pytest.mark.parametrize("key", WANTED_MODELS)
def test_wanted_models_are_known(key):
    assert find_shape(key).source


@pytest.mark.parametrize("shape", built_in_shapes().values(), ids=lambda s: s.name)
def test_parameters_match_the_published_count(shape):
    counted = profile(shape)
    assert counted.total == pytest.approx(shape.total_published, rel=0.015)
    if shape.active_published:
        assert counted.active == pytest.approx(shape.active_published, rel=0.2)
    assert dt.date.fromisoformat(shape.date) <= dt.datetime.now(dt.UTC).date()


@pytest.mark.parametrize(
    ("name", "total", "active", "cache"),
    [
        ("mistral-small-4", 118.97e9, 6.10e9, 23_040),
        ("gpt-oss-120b", 116.83e9, 5.13e9, 2 * 36_864),
        ("qwen3-next-80b-a3b", 79.7e9, 3.56e9, 24_576),
        ("qwen3-5-122b-a10b", 122.1e9, 9.0e9, 24_576),
        ("qwen3-30b-a3b", 30.5e9, 3.04e9, 98_304),
        ("olmoe-1b-7b", 6.92e9, 1.18e9, 131_072),
        ("deepseek-v3", 671.0e9, 36.6e9, 70_272),
    ],
)
def test_counts_agree_with_a_second_calculation(name, total, active, cache):
    counted = profile(find_shape(name))
    assert counted.total == pytest.approx(total, rel=0.002)
    assert counted.active == pytest.approx(active, rel=0.005)
    assert 2 * (counted.kv_full + counted.kv_window) == cache


CONFIG = {
    "model_type": "llama",
    "hidden_size": 4096,
    "vocab_size": 128256,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
}


def read(config):
    return shape_from_config(config, name="x", source="config.json")


def test_a_dense_config_gives_the_built_in_shape():
    assert profile(read(CONFIG)) == profile(find_shape("llama-3-8b"))


def test_an_expert_config_with_latent_attention_gives_the_built_in_shape():
    config = {
        "model_type": "deepseek_v3",
        "hidden_size": 7168,
        "vocab_size": 129280,
        "num_hidden_layers": 61,
        "num_attention_heads": 128,
        "intermediate_size": 18432,
        "moe_intermediate_size": 2048,
        "n_routed_experts": 256,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "first_k_dense_replace": 3,
        "kv_lora_rank": 512,
        "q_lora_rank": 1536,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
    }
    assert profile(read(config)) == profile(find_shape("deepseek-v3"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "mamba"}, "not known"),
        ({"model_type": None}, "not known"),
        ({"hidden_size": None}, "hidden_size"),
        ({"vocab_size": -5}, "vocab_size"),
        ({"num_hidden_layers": "many"}, "num_hidden_layers"),
        ({"attention_chunk_size": 8192}, "attention_chunk_size"),
    ],
)
def test_a_config_that_cannot_be_trusted_is_refused(changes, words):
    with pytest.raises(InputError, match=words):
        read(CONFIG | changes)


def test_files_that_are_no_config_are_refused(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        find_shape(str(tmp_path / "none.json"))
    broken = tmp_path / "config.json"
    broken.write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        shape_from_file(broken)
    with pytest.raises(InputError, match="deepseek-v3"):
        find_shape("deepseek-v33")


def test_prices_have_kind_range_source_and_date():
    for offer in prices.offers():
        assert offer.kind in prices.KINDS
        assert Decimal("0.1") < offer.low <= offer.usd_per_hour <= offer.high < 12
        assert offer.source
        assert dt.date.fromisoformat(offer.date) <= dt.datetime.now(tz=dt.UTC).date()
        assert find_chip(offer.chip)
    assert {o.kind for o in prices.offers()} == set(prices.KINDS)


def test_owning_is_cheaper_than_renting_by_the_hour():
    for chip in ("h100", "h200", "b200"):
        owned, rented = (prices.find_offer(chip, kind=kind) for kind in ("owning", "on_demand"))
        assert owned.usd_per_hour < rented.usd_per_hour


@pytest.mark.parametrize("price", ["-1", "0", "free", "nan"])
def test_a_price_that_is_none_is_refused(price):
    with pytest.raises(PriceError):
        prices.stated_offer("h100", price)


def test_every_number_in_the_data_files_is_finite():
    def numbers(tree):
        for value in tree.values() if isinstance(tree, dict) else tree:
            if isinstance(value, dict | list):
                yield from numbers(value)
            elif isinstance(value, float):
                yield value

    for name in ("chips.toml", "models.toml", "prices.toml"):
        assert all(math.isfinite(value) for value in numbers(raw(name)))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("bandwidth", 3350, "another unit"),
        ("bandwidth", 3.35e12, "another unit"),
        ("memory", 80_000, "another unit"),
        ("memory", 8e10, "another unit"),
        ("bf16", 989e12, "another unit"),
        ("bf16", 0.989, "FLOP a byte"),
        ("bandwidth", 0.00335, "FLOP a byte"),
        ("power", 700_000, "another unit"),
        ("link", 450e9, "another unit"),
    ],
)
def test_a_chip_in_the_wrong_units_is_refused(name, value, words):
    units = {"bf16": "TFLOP/s"} | catalog.UNITS
    good = {"bf16": 989, "memory": 80, "bandwidth": 3.35, "power": 700, "link": 450}
    entry = {
        key: {"value": number, "unit": units[key], "source": "x"}
        for key, number in (good | {name: value}).items()
    }
    tree = {
        "source": {"x": {"title": "x", "date": "2026-01-01"}},
        "chip": {"mine": {"title": "Mine", "vendor": "nvidia"} | entry},
    }
    with pytest.raises(ConfigError) as refusal:
        parse_chips(tree, where="mine.toml")
    assert words in f"{refusal.value} {refusal.value.hint}"
