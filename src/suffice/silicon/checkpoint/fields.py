"""Fields of a `config.json` under any of their names, checked as they are read."""

from collections.abc import Iterable
from typing import Any

from suffice.errors import InputError

Config = dict[str, Any]

SYNONYMS = {
    "hidden_size": ("n_embd", "d_model"),
    "num_hidden_layers": ("n_layer", "num_layers", "n_layers"),
    "num_attention_heads": ("n_head", "n_heads"),
    "num_key_value_heads": ("num_kv_heads", "n_head_kv", "multi_query_group_num", "kv_n_heads"),
    "intermediate_size": ("ffn_hidden_size", "n_inner", "ff_intermediate_size"),
    "vocab_size": ("padded_vocab_size",),
    "head_dim": ("kv_channels", "attention_head_dim"),
    "max_position_embeddings": (
        "max_sequence_length",
        "model_max_length",
        "n_positions",
        "seq_length",
        "max_seq_len",
    ),
    "n_routed_experts": ("num_experts", "num_local_experts", "moe_num_experts"),
    "num_experts_per_tok": (
        "num_experts_per_token",
        "experts_per_token",
        "moe_topk",
        "moe_top_k",
        "moe_k",
        "top_k_experts",
    ),
    "moe_intermediate_size": ("expert_ffn_hidden_size",),
    "n_shared_experts": ("num_shared_experts", "moe_num_shared_experts", "num_shared_expert"),
    "shared_width": (
        "moe_shared_expert_intermediate_size",
        "shared_expert_intermediate_size",
        "shared_intermediate_size",
        "share_expert_dim",
    ),
    "latent_width": ("moe_latent_size", "routed_expert_hidden_size"),
}
"""What makers call the same thing; the first name is the one used here."""


class ConfigFields:
    """One configuration with its family's defaults; every problem names the field.

    `where` opens each message. Values are read through `whole`, `number`, `flag` and `listed`.
    """

    def __init__(self, config: Config, defaults: Config, *, where: str) -> None:
        self.config, self.defaults, self.where = config, defaults, where

    def raw(self, name: str) -> Any:
        """Return the field under any of its names, else the family's default, else None."""
        names = (name, *SYNONYMS.get(name, ()))
        values = [self.config.get(n) for n in names]
        values += [self.defaults.get(n) for n in names]
        return next((value for value in values if value is not None), None)

    def whole(self, name: str) -> int:
        """Return a positive whole number; raises InputError where there is none."""
        value = self.number(name)
        if value is None:
            raise self.error(f"no field {name!r}, which this family needs")
        return value

    def number(self, name: str) -> int | None:
        """Return a positive whole number, or None where the field is absent or 0.

        A list that names the same number for every layer is that number.
        """
        value = self.raw(name)
        if isinstance(value, list) and value and all(entry == value[0] for entry in value):
            layers = self.raw("num_hidden_layers")
            listed = self.listed(name, layers=layers, spare=8) if isinstance(layers, int) else value
            value = listed[0] if listed else None
        if value is None or value == 0:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.error(f"{name} = {value!r} is not a positive whole number")
        return value

    def flag(self, name: str) -> bool:
        """Return whether a field is set to true."""
        return bool(self.raw(name))

    def listed(self, name: str, *, layers: int, spare: int = 0) -> list[Any] | None:
        """Return a list with one entry a layer, or None where the field is absent or no list.

        Up to `spare` more entries (of draft heads) are cut; any other length is refused.
        """
        value = self.raw(name)
        if not isinstance(value, list | tuple):
            return None
        if not layers <= len(value) <= layers + spare:
            raise self.error(
                f"{name} has {len(value)} entries for {layers} layers",
                hint="the file is cut off, or its parts belong to two models",
            )
        return list(value[:layers])

    def part(self, name: str) -> "ConfigFields":
        """Return a table within the configuration, empty where it is absent."""
        value = self.raw(name) or {}
        if not isinstance(value, dict):
            raise self.error(f"{name} is not a table")
        return ConfigFields(value, {}, where=f"{self.where}: {name}")

    def indices(self, name: str, *, layers: int, base: int = 0) -> set[int] | None:
        """Return a list of layer numbers that start at `base`, as numbers from 0."""
        value = self.raw(name)
        if isinstance(value, str):
            value = [int(piece) for piece in value.split(",") if piece.strip()]
        if not isinstance(value, list | tuple):
            return None
        return self._checked(name, (index - base for index in value), layers=layers)

    def error(self, message: str, *, hint: str = "give the complete config.json") -> InputError:
        """Make an error that names the file."""
        return InputError(f"{self.where}: {message}", hint=hint)

    def _checked(self, name: str, values: Iterable[int], *, layers: int) -> set[int]:
        indices = set(values)
        wrong = sorted(index for index in indices if not 0 <= index < layers)
        if wrong:
            raise self.error(
                f"{name} names layer {wrong[0]} of {layers}",
                hint="the file is cut off, or its parts belong to two models",
            )
        return indices
