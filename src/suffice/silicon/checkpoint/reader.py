"""Turn a Hugging Face `config.json` into a Shape, or say which field cannot be used."""

import functools
import re
import tomllib
from collections import Counter
from importlib import resources
from typing import Any

import msgspec
from msgspec import Struct

from suffice.config import nearest
from suffice.errors import InputError
from suffice.silicon.blocks import Attention, FeedForward
from suffice.silicon.checkpoint.feeds import Feeds, feeds
from suffice.silicon.checkpoint.fields import Config, ConfigFields
from suffice.silicon.checkpoint.layer_names import LayerList
from suffice.silicon.checkpoint.mixers import Mixers, mixers
from suffice.silicon.checkpoint.quantisation import Neighbour, read_formats
from suffice.silicon.checkpoint.towers import draft_head_params, vision_params
from suffice.silicon.shapes import Shape

SHAPE_FIELDS = (
    "altup_num_inputs",
    "attention_chunk_size",
    "attention_other_setting",
    "attn_layer_period",
    "attn_type_list",
    "block_configs",
    "compress_rates",
    "compress_ratios",
    "cross_attention_layers",
    "enable_moe_block",
    "full_attn_idxs",
    "global_head_dim",
    "hidden_size_per_layer_input",
    "hybrid_layer_pattern",
    "hybrid_override_pattern",
    "index_topk",
    "indexer_types",
    "interleave_moe_layer_step",
    "kv_lora_rank",
    "layer_group_size",
    "layers_block_type",
    "linear_attn_config",
    "linear_num_value_heads",
    "mamba_d_state",
    "mlp_layer_types",
    "moe_latent_size",
    "num_kv_shared_layers",
    "per_layer_config",
    "routed_expert_hidden_size",
    "sparse_attention_config",
    "ssm_cfg",
    "swa_head_dim",
    "use_cla",
    "zero_expert_num",
)
"""Fields that change what a model reads; a family that does not know one refuses it."""

NO_HEAD = re.compile(
    r"For(Sequence|Token)Classification$|ForQuestionAnswering$|Reward(Model)?$"
    r"|^(Llama|Mistral|Mixtral|Qwen[23](Moe)?|Gemma[23]?|Phi3?|Bert|XLMRoberta)(Bidirectional)?Model$"
)
"""Architectures that score or embed a text, and generate none."""

YARN = ("yarn", "deepseek_yarn")
TEXT_PARTS = ("text_config", "llm_config", "language_config", "language_model_config")
HINT = "write the shape by hand: docs/silicon.md shows a file for --model-file"


class ModelFamily(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Values of `model_type` that are read alike; see data/families.toml."""

    types: tuple[str, ...]
    defaults: dict[str, Any] = {}
    reads: tuple[str, ...] = ()


@functools.cache
def part_defaults() -> dict[str, Config]:
    """Read what a text part leaves out where it has its class's own value, by `model_type`.

    transformers wrote only what differs from the class for a part within a configuration.
    """
    text = resources.files("suffice.silicon").joinpath("data/families.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text)["part"], dict[str, Config])


@functools.cache
def families() -> dict[str, ModelFamily]:
    """Read the list of families, keyed by `model_type`."""
    text = resources.files("suffice.silicon").joinpath("data/families.toml").read_text("utf-8")
    listed = msgspec.convert(tomllib.loads(text)["family"], list[ModelFamily])
    return {name: family for family in listed for name in family.types}


def shape_from_config(
    config: Config,
    *,
    name: str,
    source: str,
    date: str = "unknown",
    neighbour: Neighbour | None = None,
) -> Shape:
    """Turn a decoder's configuration into its shape; raises InputError rather than guess.

    `neighbour` is a quantisation file that lay beside the configuration. Of a model that also
    speaks (Qwen Omni) the part that thinks is read: engines serve it without the one that speaks.
    """
    thinker = config.get("thinker_config")
    config = config | thinker if isinstance(thinker, dict) else config
    inner = next((config[part] for part in TEXT_PARTS if config.get(part)), config)
    if not isinstance(inner, dict):
        raise InputError(f"{source}: text_config is not a table", hint="give a config.json")
    known = families()
    kinds = [str(part.get("model_type") or "") for part in (inner, config)]
    kind = next((kind for kind in kinds if kind in known), kinds[0] or kinds[1])
    if kind not in known:
        raise InputError(
            f"{source}: architecture {kind or 'not named'!r} is not known",
            hint=f"{nearest(kind, tuple(known))}; or {HINT}",
        )
    if inner is not config:
        inner = part_defaults().get(kind, {}) | inner
    family = known[kind]
    for architecture in config.get("architectures") or ():
        if NO_HEAD.search(str(architecture)):
            raise InputError(
                f"{source}: {architecture} scores or embeds texts and generates no tokens",
                hint="give the config.json of a model that generates",
            )
    for field in SHAPE_FIELDS:
        if inner.get(field) and field not in family.reads:
            raise InputError(
                f"{source}: {field} changes the shape in a way that is not modelled for {kind}",
                hint=HINT,
            )
    fields = ConfigFields(inner, family.defaults, where=source)
    try:
        return _shape(fields, whole=config, name=name, date=date, neighbour=neighbour)
    except (TypeError, ValueError, KeyError, msgspec.ValidationError) as error:
        raise InputError(
            f"{source}: {error}", hint="a field has the wrong type or value"
        ) from error


def _shape(
    fields: ConfigFields, *, whole: Config, name: str, date: str, neighbour: Neighbour | None
) -> Shape:
    layers, hidden = _layer_count(fields), fields.whole("hidden_size")
    mixing, forward = mixers(fields, layers=layers), feeds(fields, layers=layers)
    tied = whole.get("tie_word_embeddings")
    tied = fields.raw("tie_word_embeddings") if tied is None else tied
    vocab = fields.whole("vocab_size")
    extra, lookups = _additions(fields, layers=layers, hidden=hidden)
    names = LayerList(mixing=mixing, feeds=forward, hidden=hidden, head=vocab * hidden)
    return Shape(
        name=name,
        hidden=hidden,
        vocab=vocab,
        source=fields.where,
        date=date,
        attention=_merged(mixing),
        dense=_merged_dense(forward),
        experts=forward.experts,
        tied=bool(tied),
        extra=extra,
        lookups=lookups,
        vision=vision_params(whole),
        mtp=draft_head_params(fields, mixing=mixing, feeds=forward, hidden=hidden),
        max_context_tokens=_context_tokens(fields),
        formats=read_formats(whole, fields.config, names=names, neighbour=neighbour),
    )


def _context_tokens(fields: ConfigFields) -> int | None:
    """Return the longest context; with YaRN it is at least the factor times the original one.

    In `max_position_embeddings` some files state the longer one, others the original one.
    """
    stated = fields.number("max_position_embeddings")
    scaling = fields.raw("rope_scaling") or fields.raw("rope_parameters")
    scaling = scaling if isinstance(scaling, dict) else {}
    kind = scaling.get("rope_type") or scaling.get("type")
    original, factor = (scaling.get(k) for k in ("original_max_position_embeddings", "factor"))
    if kind not in YARN or stated is None or not original or not factor:
        return stated
    return max(stated, int(original * factor))


def _layer_count(fields: ConfigFields) -> int:
    """Return the number of layers, or where it is left out the length of the list of layers."""
    listed = fields.raw("layers_block_type") or fields.raw("hybrid_override_pattern")
    return fields.number("num_hidden_layers") or (
        len(listed) if listed else fields.whole("num_hidden_layers")
    )


def _additions(fields: ConfigFields, *, layers: int, hidden: int) -> tuple[int, int]:
    """Parameters outside the blocks: multiplied with by every token, and looked up."""
    extra, lookups = 0, 0
    if width := fields.number("hidden_size_per_layer_input"):
        rows = fields.number("vocab_size_per_layer_input") or fields.whole("vocab_size")
        lookups += rows * layers * width
        extra += 3 * layers * width * hidden
    if inputs := fields.number("altup_num_inputs"):
        extra += 2 * (inputs - 1) * hidden * hidden
        extra += 2 * layers * (fields.number("laurel_rank") or 0) * hidden
    if fields.flag("learned_positions"):
        lookups += (fields.number("max_position_embeddings") or 0) * hidden
    return extra, lookups


def _merged(mixing: Mixers) -> tuple[Attention, ...]:
    """Count equal blocks together, in the order of their first layers."""
    counts = Counter(block for layer in mixing for block in layer)
    return tuple(msgspec.structs.replace(block, layers=count) for block, count in counts.items())


def _merged_dense(forward: Feeds) -> tuple[FeedForward, ...]:
    counts = Counter(block for layer in forward.dense for block in layer)
    return tuple(msgspec.structs.replace(block, layers=count) for block, count in counts.items())
