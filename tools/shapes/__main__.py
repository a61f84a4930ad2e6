"""Count the parameters of checkpoints exactly: `python -m tools.shapes CONFIG... --out FILE`.

Every model is built by transformers on torch's meta device, which allocates nothing, and its
matrices are added up. `CONFIG` is a config.json, or `default:MODEL_TYPE` for the family's defaults.
The file holds one JSON object a line: the configuration without what does not change its shape,
and the counts; `tests/silicon/test_families.py` reads it and needs neither torch nor transformers.
Run in an environment of its own: `pip install torch==2.13.0 transformers==5.24.0`.
"""

# mypy: ignore-errors
import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

TOWERS = (
    *("visual", "vision", "audio", "multi_modal", "projector", "image", "vit", "connector"),
    *("patch", "merger", "tower"),
)
TABLES = ("embed_tokens", "embeddings", "wte", "word_embeddings", "embed_in", "wpe", "embed_pos")
HEADS = ("lm_head", "embed_out")
CHOSEN = (
    *("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_topk"),
    *("moe_k", "top_k_experts"),
)
DROPPED = (
    *("id2label", "label2id", "token_id", "token_ids", "dropout", "initializer", "return_dict"),
    *(
        "output_",
        "architectures",
        "transformers_version",
        "auto_map",
        "rope_theta",
        "rms_norm",
        "_eps",
    ),
    *("rope_parameters", "rope_scaling", "rope_interleave", "local_base_freq"),
    *("quantization_config", "problem_type", "use_cache", "hidden_act", "time_step", "router_"),
    *("torch_dtype", "is_encoder", "bos_", "eos_", "pad_", "pdrop", "beam", "_name_or_path"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configs", nargs="+", help="Files, or default:MODEL_TYPE.")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines to write.")
    arguments = parser.parse_args()
    lines = []
    for name in arguments.configs:
        try:
            lines.append(json.dumps(measure(name), sort_keys=True))
        except Exception as error:  # noqa: BLE001  transformers raises whatever it likes
            print(f"{name}: left out: {type(error).__name__}: {error}", file=sys.stderr)
    arguments.out.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    print(f"{len(lines)} models in {arguments.out}")


def measure(name: str) -> dict[str, object]:
    """Build one model and count: all text parameters, those that are active, those of towers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = name.removeprefix("default:")
    if kind != name:
        settings = CONFIG_MAPPING[kind]().to_dict()
    else:
        settings = json.loads(Path(name).read_text("utf-8"))
    built = {key: value for key, value in settings.items() if key != "quantization_config"}
    config = CONFIG_MAPPING[settings["model_type"]].from_dict(built)
    with torch.device("meta"):
        try:
            model = AutoModelForImageTextToText.from_config(config)
        except ValueError:
            model = AutoModelForCausalLM.from_config(config)
    sizes = {parameter: value.numel() for parameter, value in model.named_parameters()}
    towers = sum(n for parameter, n in sizes.items() if any(t in parameter for t in TOWERS))
    text = {p: n for p, n in sizes.items() if not any(t in p for t in TOWERS)}
    routed = sum(n for p, n in text.items() if ".experts." in p and "shared" not in p)
    inner = settings.get("text_config") or settings.get("llm_config") or settings
    chosen = next((inner[key] for key in CHOSEN if inner.get(key)), 0)
    count = next(
        (v.shape[0] for p, v in model.named_parameters() if ".experts." in p and v.dim() == 3), 1
    )
    tied = not any(head in p for p in text for head in HEADS)  # shared matrices appear once
    tables = sum(n for p, n in text.items() if any(f".{t}" in f".{p}" for t in TABLES))
    by_layer = sum(n for p, n in text.items() if "embed_tokens_per_layer" in p)
    looked_up = by_layer if tied else tables
    active = sum(text.values()) - looked_up - routed * (1 - chosen / count if routed else 0)
    return {
        "name": Path(name).name.removesuffix("_config.json") if kind == name else name,
        "config": dict(_kept(settings)),
        "total": sum(text.values()),
        "active": round(active),
        "towers": towers,
    }


def _kept(settings: dict[str, object]) -> Iterator[tuple[str, object]]:
    """Leave out what does not change the shape."""
    for key, value in settings.items():
        if value is None or any(word in key for word in DROPPED):
            continue
        yield key, dict(_kept(value)) if isinstance(value, dict) else value


if __name__ == "__main__":
    main()
