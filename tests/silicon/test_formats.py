"""Number formats: every method's spelling, mixtures, files that disagree, what is shown."""

import json

import pytest

from suffice.errors import InputError
from suffice.silicon.catalog import find_chip
from suffice.silicon.checkpoint.quantisation import Neighbour
from suffice.silicon.checkpoint.reader import shape_from_config
from suffice.silicon.formats import format_text, mean_bits, named_format, resolve_formats
from suffice.silicon.layouts import spreads
from suffice.silicon.models import find_shape, shape_from_file
from suffice.silicon.plan import make_plan
from suffice.silicon.question import PlanRequest, Workload
from suffice.silicon.shapes import profile
from suffice.silicon.weights import describe_formats, weight_parts

DENSE = {
    "model_type": "llama",
    "hidden_size": 4096,
    "vocab_size": 32000,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "intermediate_size": 11008,
    "torch_dtype": "bfloat16",
}
LATENT = {
    "model_type": "deepseek_v3",
    "hidden_size": 2048,
    "vocab_size": 32000,
    "num_hidden_layers": 8,
    "num_attention_heads": 16,
    "intermediate_size": 8192,
    "moe_intermediate_size": 1024,
    "n_routed_experts": 64,
    "n_shared_experts": 1,
    "num_experts_per_tok": 4,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 512,
    "q_lora_rank": 768,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
}


GATED = {
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "vocab_size": 32000,
    "num_hidden_layers": 8,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_experts": 64,
    "num_experts_per_tok": 8,
}
COMPRESSED = {
    "model_type": "deepseek_v4",
    "compress_ratios": [0, 4, 128, 4],
    "head_dim": 512,
    "hidden_size": 4096,
    "index_head_dim": 128,
    "index_n_heads": 64,
    "index_topk": 512,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 64,
    "n_shared_experts": 1,
    "num_attention_heads": 64,
    "num_experts_per_tok": 6,
    "num_hidden_layers": 4,
    "num_key_value_heads": 1,
    "o_groups": 8,
    "o_lora_rank": 1024,
    "q_lora_rank": 1024,
    "qk_rope_head_dim": 64,
    "sliding_window": 128,
    "vocab_size": 32000,
}


def group(bits, kind, **more):
    return {"group_0": {"targets": ["Linear"], "weights": {"num_bits": bits, "type": kind} | more}}


def formats(quantisation, *, model=DENSE, beside=None):
    config = model | ({"quantization_config": quantisation} if quantisation else {})
    neighbour = Neighbour(name="hf_quant_config.json", content=beside) if beside else None
    return shape_from_config(config, name="x", source="x", neighbour=neighbour).formats


def modelopt(algorithm, **more):
    return {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": algorithm} | more}


@pytest.mark.parametrize(
    ("quantisation", "expected"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8"),
        ({"quant_method": "fbgemm_fp8", "modules_to_not_convert": ["lm_head"]}, "fp8"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "int4"),
        ({"quant_method": "gptq", "bits": 8}, "int8"),
        ({"quant_method": "gptq", "bits": 3}, "int3"),
        ({"quant_method": "auto-round", "bits": 4}, "int4"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "nf4"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8"),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8"),
        (
            {"quant_algo": "FP8", "kv_cache_scheme": "FP8", "config_groups": group(8, "float")},
            "fp8",
        ),
        ({"quant_method": "modelopt_fp4", "quant_algo": "NVFP4_AWQ"}, "nvfp4"),
        ({"quant_method": "compressed-tensors", "config_groups": group(8, "float")}, "fp8"),
        ({"quant_method": "compressed-tensors", "config_groups": group(8, "int")}, "int8"),
        ({"quant_method": "compressed-tensors", "config_groups": group(4, "int")}, "int4"),
        (
            {
                "quant_method": "compressed-tensors",
                "format": "nvfp4-pack-quantized",
                "config_groups": group(4, "float", group_size=16),
            },
            "nvfp4",
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "format": "mxfp4-pack-quantized",
                "config_groups": group(4, "float", group_size=32),
            },
            "mxfp4",
        ),
        (
            {
                "quant_method": "quark",
                "global_quant_config": {"weight": {"dtype": "fp8_e4m3"}},
                "exclude": ["lm_head"],
            },
            "fp8",
        ),
        (
            {"quant_method": "torchao", "quant_type": {"default": {"_type": "Int4WeightOnly"}}},
            "int4",
        ),
        (None, "bf16"),
    ],
)
def test_every_method_states_its_format(quantisation, expected):
    read = formats(quantisation)
    assert (read.attention, read.dense, read.head) == (expected, expected, "bf16")


def torchao(kind, **data):
    return {"quant_method": "torchao", "quant_type": {"default": {"_type": kind, "_data": data}}}


INT4 = {"_type": "torch.dtype", "_data": "int4"}


@pytest.mark.parametrize(
    ("quantisation", "attention", "dense"),
    [
        (torchao("Int8DynamicActivationIntxWeightConfig", weight_dtype=INT4), "int4", "int4"),
        (
            torchao(
                "Int8DynamicActivationIntxWeightConfig",
                weight_dtype={"_type": "torch.dtype", "_data": "int2"},
            ),
            "int2",
            "int2",
        ),
        (torchao("Float8DynamicActivationInt4WeightConfig"), "int4", "int4"),
        (torchao("NVFP4InferenceConfig"), "nvfp4", "nvfp4"),
        ({"quant_method": "torchao", "quant_type": "int8_weight_only"}, "int8", "int8"),
        (
            torchao(
                "ModuleFqnToConfig",
                module_fqn_to_config={
                    "_default": {"_type": "Int8WeightOnlyConfig", "_data": {}},
                    "re:.*self_attn.*": None,
                    "model.embed_tokens": {"_type": "x", "_data": {"weight_dtype": INT4}},
                },
            ),
            "bf16",
            "int8",
        ),
        (
            {
                "quant_method": "quark",
                "global_quant_config": {"weight": [{"dtype": "fp8_e4m3"}, {"dtype": "int4"}]},
            },
            "int4",
            "int4",
        ),
        (
            {
                "quant_method": "quark",
                "global_quant_config": {},
                "layer_type_quant_config": {"torch.nn.Linear": {"weight": {"dtype": "int8"}}},
            },
            "int8",
            "int8",
        ),
        ({"quant_method": "quanto", "weights": "float8"}, "fp8", "fp8"),
        ({"quant_method": "quanto", "weights": "int4"}, "int4", "int4"),
        ({"quant_method": "fp_quant", "forward_dtype": "mxfp4"}, "mxfp4", "mxfp4"),
    ],
)
def test_libraries_state_their_formats_in_tables_of_their_own(quantisation, attention, dense):
    read = formats(quantisation)
    assert (read.attention, read.dense, read.head) == (attention, dense, "bf16")


@pytest.mark.parametrize(
    "quantisation",
    [
        torchao("IntxWeightOnlyConfig", weight_dtype={"_type": "torch.dtype", "_data": "int5"}),
        {"quant_method": "quanto", "weights": "int1"},
        {"quant_method": "fp_quant", "forward_dtype": "nvfp4", "store_master_weights": True},
        {"quant_method": "quark", "layer_type_quant_config": {"Conv2d": {}}},
    ],
)
def test_types_of_libraries_that_nobody_knows_are_refused(quantisation):
    with pytest.raises(InputError, match="not known"):
        formats(quantisation)


def test_weights_stored_in_32_bits_are_served_in_16():
    assert formats(None, model=DENSE | {"torch_dtype": "float32"}).dense == "bf16"


@pytest.mark.parametrize(
    "ignored",
    [
        ["re:.*self_attn.*", "lm_head"],
        ["*self_attn*"],
        [f"model.layers.{i}.self_attn*" for i in range(32)],
        [f"model.layers.{i}.self_attn.{m}_proj" for i in range(32) for m in "qkvo"],
        ["self_attn"],
    ],
)
def test_modules_left_alone_keep_16_bits_however_they_are_spelt(ignored):
    read = formats(
        {
            "quant_method": "compressed-tensors",
            "config_groups": group(8, "float"),
            "ignore": ignored,
        }
    )
    assert (read.attention, read.dense) == ("bf16", "fp8")


def test_layers_left_alone_make_a_mixture_by_parameters():
    ignored = ["model.layers.0*", "model.layers.1.*", "mtp.layers.2*"]
    read = formats({"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ignored})
    assert read.dense == pytest.approx({"nvfp4": 30 / 32, "bf16": 2 / 32})
    assert mean_bits(read.dense) == pytest.approx(4.5 * 30 / 32 + 16 * 2 / 32)
    assert format_text(read.dense) == "nvfp4 94 %, bf16 6 %"


def test_projections_left_alone_in_a_neighbouring_file_are_a_share_of_attention():
    parts = ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj")
    names = [f"model.layers.{i}.self_attn.{part}" for i in range(9) for part in parts]
    beside = modelopt("NVFP4", kv_cache_quant_algo="FP8", exclude_modules=["lm_head", *names])
    read = formats(None, model=LATENT, beside=beside)
    projected = 2048 * 768 + 768 * 16 * 192 + 2048 * 576 + 512 * 16 * 256
    whole = projected + 16 * 128 * 2048
    assert read.attention == pytest.approx(
        {"nvfp4": 1 - projected / whole, "bf16": projected / whole}
    )
    assert (read.dense, read.experts, read.cache) == ("nvfp4", "nvfp4", "fp8")
    assert read.origin == "hf_quant_config.json"


@pytest.mark.parametrize("shortening", ["... the same for every layer", "…", "and so on ..."])
def test_a_shortened_list_says_the_same_of_every_layer(shortening):
    parts = ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj")
    every = [f"model.layers.{i}.self_attn.{part}" for i in range(9) for part in parts]
    beside = modelopt("NVFP4", exclude_modules=["lm_head", *every])
    shortened = modelopt("NVFP4", exclude_modules=["lm_head", *every[:5], shortening])
    read = formats(None, model=LATENT, beside=shortened)
    assert read.attention == formats(None, model=LATENT, beside=beside).attention
    assert "shortened list" in read.origin


def test_the_narrower_statement_wins():
    layers = {f"layers.{i}.ffn.experts": {"quant_algo": "NVFP4"} for i in range(8)}
    read = formats(
        {"quant_method": "fp8", "quant_algo": "MIXED_PRECISION", "quantized_layers": layers},
        model=LATENT,
    )
    assert (read.attention, read.dense, read.experts) == ("fp8", "fp8", "nvfp4")


def test_mixed_precision_leaves_unnamed_layers_in_16_bits():
    layers = {f"model.layers.{i}.mlp.down_proj": {"quant_algo": "FP8"} for i in range(32)}
    layers |= {f"model.layers.{i}.mlp.gate_proj": {"quant_algo": "W4A16_NVFP4"} for i in range(32)}
    layers |= {"lm_head": {"quant_algo": "NVFP4"}}
    read = formats(None, beside=modelopt("MIXED_PRECISION", quantized_layers=layers))
    assert read.attention == "bf16"
    assert read.dense == pytest.approx({"fp8": 1 / 3, "nvfp4": 1 / 3, "bf16": 1 / 3})
    assert read.head == "nvfp4"


def test_mxfp4_and_an_expert_dtype_speak_of_experts_alone():
    read = formats({"quant_method": "mxfp4"}, model=LATENT)
    assert (read.attention, read.dense, read.experts) == ("bf16", "bf16", "mxfp4")
    read = formats({"quant_method": "fp8"}, model=LATENT | {"expert_dtype": "fp4"})
    assert (read.attention, read.experts) == ("fp8", "mxfp4")


def test_experts_beside_a_dense_layer_are_not_below_it():
    config = {
        "model_type": "gemma4_text",
        "hidden_size": 2816,
        "num_hidden_layers": 6,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "intermediate_size": 2112,
        "moe_intermediate_size": 704,
        "num_experts": 128,
        "top_k_experts": 8,
        "enable_moe_block": True,
    }
    ignored = [f"model.language_model.layers.{i}.mlp*" for i in range(6)]
    read = formats(None, model=config, beside=modelopt("NVFP4", exclude_modules=ignored))
    assert (read.dense, read.experts) == ("bf16", "nvfp4")


@pytest.mark.parametrize(
    ("quantisation", "words"),
    [
        ({"quant_method": "sorcery"}, "sorcery.*not known"),
        ({"quant_method": "aqlm", "nbits_per_codebook": 8}, "aqlm.*not known"),
        ({"bits_and_pieces": 4}, "no quantisation method"),
        ({"quant_method": "fp8", "bits": 4}, "contradicts itself: method fp8, but 4 bits"),
        ({"quant_method": "fp8", "quant_algo": "NVFP4"}, "contradicts itself"),
        ({"quant_method": "awq", "bits": 4, "w_bit": 8}, "contradicts itself: bits are 4, 8"),
        ({"quant_method": "gptq"}, "names no bits"),
        ({"quant_method": "gptq", "bits": 5}, "5 bits"),
        (
            {"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": True},
            "contradicts itself: exactly one",
        ),
        (
            {"quant_method": "modelopt", "quant_algo": "FP8", "config_groups": group(4, "float")},
            "contradicts itself: quant_algo is FP8",
        ),
        ({"quant_method": "modelopt", "quant_algo": "FP5"}, "FP5"),
        ({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}, "names no layers"),
        (
            {
                "quant_method": "compressed-tensors",
                "format": "int-quantized",
                "config_groups": group(8, "float"),
            },
            "fp8 weights cannot be packed as int-quantized",
        ),
        ({"quant_method": "compressed-tensors"}, "no config_groups"),
        ({"quant_method": "compressed-tensors", "config_groups": group(6, "float")}, "6 bits"),
        (
            {"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "FP7"},
            "cache format 'FP7'",
        ),
        (
            {
                "quant_method": "modelopt",
                "quant_algo": "FP8",
                "kv_cache_quant_algo": "NVFP4",
                "kv_cache_scheme": {"num_bits": 8, "type": "float"},
            },
            "two cache formats",
        ),
        ({"quant_method": "fp8", "modules_to_not_convert": ["re:("]}, "pattern"),
        ({"quant_method": "fp8", "modules_to_not_convert": ["re:(a+)+b"]}, "repeat"),
        ("fp8", "not a table"),
    ],
)
def test_unknown_methods_and_contradictions_are_refused_by_name(quantisation, words):
    with pytest.raises(InputError, match=words):
        formats(quantisation)


@pytest.mark.parametrize(
    ("beside", "words"),
    [
        (modelopt("NVFP4", exclude_modules=["model.layers.60.self_attn*"]), "names layer 60"),
        (
            modelopt("NVFP4", exclude_modules=[f"model.layers.{i}.mlp*" for i in range(24)]),
            "0 to 23",
        ),
        (modelopt("NVFP4", exclude_modules=["model.layers.3.self_attn.q_a_proj"]), "q_a_proj"),
        (modelopt("NVFP4", exclude_modules=["model.layers.3.mlp.experts.0*"]), "experts"),
        (
            modelopt(
                "MIXED_PRECISION", quantized_layers={"encoder.block.dense": {"quant_algo": "FP8"}}
            ),
            "names no matrix",
        ),
    ],
)
def test_a_neighbour_of_another_model_is_refused(beside, words):
    with pytest.raises(InputError, match=words):
        formats(None, beside=beside)


def test_a_neighbour_that_disagrees_is_refused_and_one_that_agrees_is_not():
    own = {"quant_method": "modelopt", "quant_algo": "FP8"}
    assert formats(own, beside=modelopt("FP8", kv_cache_quant_algo="FP8")).cache == "fp8"
    with pytest.raises(InputError, match="says nvfp4 of"):
        formats(own, beside=modelopt("NVFP4"))
    with pytest.raises(InputError, match="two cache formats"):
        formats(
            own | {"kv_cache_quant_algo": "NVFP4"},
            beside=modelopt("FP8", kv_cache_quant_algo="FP8"),
        )


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("hf_quant_config.json", modelopt("FP8"), "fp8"),
        ("quant_config.json", {"zero_point": True, "q_group_size": 128, "w_bit": 4}, "int4"),
        ("quantize_config.json", {"bits": 8, "group_size": 128}, "int8"),
    ],
)
def test_a_file_beside_the_configuration_is_read(tmp_path, name, content, expected):
    (tmp_path / "config.json").write_text(json.dumps(DENSE), "utf-8")
    (tmp_path / name).write_text(json.dumps(content), "utf-8")
    shape = shape_from_file(tmp_path / "config.json")
    assert shape.formats.dense == expected
    assert shape.name == tmp_path.name


def test_a_neighbour_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(DENSE), "utf-8")
    for text in ("{", "[]", "3"):
        (tmp_path / "hf_quant_config.json").write_text(text, "utf-8")
        with pytest.raises(InputError, match="hf_quant_config"):
            shape_from_file(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("name", "attention", "experts"),
    [
        ("glm-5-fp8", "fp8", "fp8"),
        ("qwen3.5-397b-a17b-nvfp4", "nvfp4", "nvfp4"),
        ("kimi-k2-instruct", "fp8", "fp8"),
        ("kimi-k2.5", "bf16", "int4"),
        ("kimi-k2-thinking", "bf16", "int4"),
        ("llama-3.3-70b-instruct-fp8", "fp8", "fp8"),
        ("RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic", "fp8", "fp8"),
        ("meta-llama-3.1-8b-awq", "int4", "int4"),
        ("llama-3.1-8b-instruct-quantized.w8a8", None, None),
        ("gpt-oss-120b", "bf16", "mxfp4"),
        ("deepseek-r1", "fp8", "fp8"),
        ("deepseek-r1-0528-nvfp4", "nvfp4", "nvfp4"),
        ("qwen3-32b", "bf16", "bf16"),
    ],
)
def test_a_name_states_its_format(name, attention, experts):
    if attention is None:
        with pytest.raises(InputError, match="no model"):
            find_shape(name)
        return
    own = find_shape(name).formats
    assert (own.attention, own.experts) == (attention, experts)


@pytest.mark.parametrize(
    ("name", "weights", "cache"),
    [
        ("amd/Llama-3.3-70B-Instruct-FP8-KV", "fp8", "fp8"),
        ("hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4", "int4", None),
        ("nvidia/DeepSeek-R1-0528-NVFP4-v2", "nvfp4", None),
        ("Intel/Qwen3-32B-int4-AutoRound", "int4", None),
        ("llama-3.3-70b-instruct-w8a8-int8", "int8", None),
    ],
)
def test_an_ending_of_several_words_is_one_statement(name, weights, cache):
    own = find_shape(name).formats
    assert (own.dense, own.cache) == (weights, cache)


@pytest.mark.parametrize("name", ["llama-3.3-70b-int4-fp8", "qwen3-32b-awq-nvfp4"])
def test_a_name_that_states_two_formats_is_refused(name):
    with pytest.raises(InputError, match="no model"):
        find_shape(name)


def test_endings_that_state_no_format_are_left_alone():
    assert named_format("kimi-k2-thinking") is None
    assert named_format("x-gptq-int8") == ("x", "int8")


def test_what_the_user_names_replaces_what_the_checkpoint_states():
    own = find_shape("deepseek-v3").formats
    assert resolve_formats(own).cache == "bf16"
    mixed = resolve_formats(own, experts="nvfp4", cache="fp8_e4m3")
    assert (mixed.attention, mixed.experts, mixed.cache) == ("fp8", "nvfp4", "fp8")
    both = resolve_formats(own, weights="bf16", experts="fp8")
    assert (both.attention, both.dense, both.experts) == ("bf16", "bf16", "fp8")
    for wrong in ({"weights": "fp9"}, {"experts": "fp9"}, {"cache": "int4"}):
        with pytest.raises(InputError, match="format"):
            resolve_formats(own, **wrong)


def test_a_plan_shows_its_formats_and_bytes_by_part():
    work = Workload(input_tokens=1000, output_tokens=200)
    request = PlanRequest(model=find_shape("llama-3.3-70b-fp8"), workload=work, chips=("h200",))
    plan = make_plan(request)
    parts = {part.part: part for part in plan.weights}
    assert sum(part.bytes for part in plan.weights) == pytest.approx(72.7e9, rel=0.002)
    assert parts["attention"].format == "fp8"
    assert parts["embeddings"].format == "bf16"
    text = describe_formats(plan.weights, plan.formats)
    assert text.startswith("weights fp8 (the name, which ends in fp8); cache bf16")
    assert plan.active_parameters_with_embedding == pytest.approx(plan.total_parameters)


def test_a_16_bit_cache_holds_half_of_what_an_8_bit_one_does():
    work = Workload(input_tokens=20_000, output_tokens=1000)
    request = PlanRequest(model=find_shape("llama-3.3-70b-fp8"), workload=work, chips=("h200",))
    import msgspec

    batches = [
        max(o.batch for o in make_plan(msgspec.structs.replace(request, cache_format=f)).frontier)
        for f in ("bf16", "fp8")
    ]
    assert batches[0] < batches[1]


def test_draft_heads_and_towers_are_parts_of_their_own():
    shape = find_shape("deepseek-v3")
    names = [part.part for part in weight_parts(shape, resolve_formats(shape.formats))]
    assert "towers for pictures and sound" not in names
    assert {"attention", "dense layers", "shared experts", "routed experts"} <= set(names)


def test_four_bits_on_a_chip_without_such_arithmetic_is_noted():
    work = Workload(input_tokens=1000, output_tokens=200)
    model = find_shape("llama-3.3-70b")
    for chip, noted in (("h100", True), ("b200", False)):
        plan = make_plan(
            PlanRequest(model=model, workload=work, chips=(chip,), weight_format="nvfp4")
        )
        assert any("4-bit" in note for note in plan.ranking[0].notes) == noted


def test_bits_of_layers_of_their_own_are_read_from_gptqmodel_and_autoround():
    dynamic = {
        "-:.*self_attn.*": {},
        "+:.*down_proj.*": {"bits": 8},
        r".*\.0\..*up_proj": {"bits": 8},
    }
    own = formats({"quant_method": "gptq", "bits": 4, "group_size": 128, "dynamic": dynamic})
    assert own.attention == "bf16"
    third, first_up = 1 / 3, 1 / (3 * 32)
    assert own.dense["int8"] == pytest.approx(third + first_up)
    extra = {f"model.layers.{i}.self_attn.v_proj": {"bits": 16} for i in range(32)}
    own = formats({"quant_method": "auto-round", "bits": 4, "extra_config": extra})
    assert own.attention["bf16"] == pytest.approx(0.25)
    pattern = {"model.layers.*.mlp.down_proj": {"bits": 8}}
    own = formats({"quant_method": "auto-round", "bits": 4, "extra_config": pattern})
    assert own.dense["int8"] == pytest.approx(third)


@pytest.mark.parametrize("place", ["quantization_config", "compression_config"])
@pytest.mark.parametrize("inside", [False, True])
def test_a_quantisation_is_found_under_its_old_name_and_in_the_text_part(place, inside):
    statement = {place: {"quant_method": "compressed-tensors", "config_groups": group(8, "float")}}
    text = DENSE | (statement if inside else {})
    whole = {"model_type": "llava", "text_config": text} | ({} if inside else statement)
    own = shape_from_config(whole, name="x", source="x", neighbour=None).formats
    assert own.attention == own.dense == "fp8"


def test_two_statements_in_one_file_that_differ_are_refused():
    eight = {"quant_method": "fp8"}
    four = {"quant_method": "awq", "bits": 4}
    whole = {"model_type": "llava", "text_config": DENSE | {"quantization_config": four}}
    with pytest.raises(InputError, match="two quantisations"):
        shape_from_config(
            whole | {"quantization_config": eight}, name="x", source="x", neighbour=None
        )


@pytest.mark.parametrize(
    "statement",
    [
        {"quant_method": "awq", "bits": 4, "quant_algo": "FP8"},
        {"quant_method": "gptq", "bits": 8, "quant_algo": "NVFP4"},
        {"quant_method": "mxfp4", "quant_algo": "FP8"},
    ],
)
def test_an_algorithm_that_says_another_format_than_the_method_is_refused(statement):
    with pytest.raises(InputError, match="contradicts"):
        formats(statement)


def test_sparse_weights_are_refused_by_name_and_dense_ones_are_not():
    whole = {"quant_method": "compressed-tensors", "config_groups": group(8, "float")}
    with pytest.raises(InputError, match="sparse-24-bitmask"):
        formats(whole | {"sparsity_config": {"format": "sparse-24-bitmask"}})
    assert formats(whole | {"sparsity_config": {"format": "dense"}}).dense == "fp8"
    assert formats(whole | {"sparsity_config": {}}).dense == "fp8"


def test_double_quantisation_of_scales_takes_fewer_bits():
    plain = formats({"quant_method": "bitsandbytes", "load_in_4bit": True})
    double = formats(
        {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_use_double_quant": True}
    )
    assert mean_bits(plain.dense) == 4.5
    assert mean_bits(double.dense) == pytest.approx(4 + 8 / 64 + 32 / (64 * 256), abs=1e-3)


def test_four_bit_experts_inside_eight_bit_layers():
    own = formats({"quant_method": "w4afp8", "group_size": 128}, model=GATED)
    assert (own.attention, own.experts) == ("fp8", "int4")


def test_names_of_original_checkpoints_are_known():
    groups = {
        "group_0": {
            "targets": ["re:.*attn.*(fused_wqa_wkv|wq_b|wo_a|wo_b)$"],
            "weights": {"num_bits": 8, "type": "float"},
        },
        "group_1": {
            "targets": ["re:.*ffn.*(gate|up|down)_proj$"],
            "weights": {"num_bits": 4, "type": "float", "group_size": 16},
        },
    }
    own = formats(
        {
            "quant_method": "compressed-tensors",
            "format": "mixed-precision",
            "config_groups": groups,
        },
        model=COMPRESSED,
    )
    assert own.attention["fp8"] > 0.85
    assert own.experts == own.dense == "nvfp4"


def test_a_method_that_nobody_knows_may_be_planned_with_formats_that_are_named(tmp_path):
    statement = {"quantization_config": {"quant_method": "aqlm"}, "torch_dtype": "bfloat16"}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(DENSE | statement))
    with pytest.raises(InputError, match="aqlm"):
        find_shape(str(path))
    shape = find_shape(str(path), formats=False)
    assert resolve_formats(shape.formats, weights="int4").dense == "int4"


def test_public_reports_of_memory_come_out_right():
    """Bytes a token that vLLM logged: hf-mem #60, vllm #21348, vllm #15783; and weights."""
    gpt, big, small = (find_shape(n) for n in ("gpt-oss-120b", "qwen3-235b-a22b", "qwen2-7b"))
    counts = profile(gpt)
    assert 2 * (counts.kv_full + counts.kv_window) == 73_728
    assert sum(part.bytes for part in weight_parts(gpt, gpt.formats)) == pytest.approx(
        65_248_815_744, rel=0.01
    )
    tokens = 8.11 * 2**30 / (2 * profile(big).kv_full / 4)
    assert tokens == pytest.approx(178_880, rel=0.02)
    assert 46.11 * 2**30 / (2 * profile(small).kv_full) == pytest.approx(53_965 * 16, rel=0.01)


@pytest.mark.parametrize(
    ("model", "context", "gib"),
    [
        ("qwen3-0-6b", 40_960, 4.38),
        ("deepseek-v3.1", 163_840, 10.72),
        ("kimi-k2.5", 262_144, 17.16),
        ("qwen3-5-27b", 262_144, 16.00),
    ],
)
def test_caches_of_a_public_report_come_out_right(model, context, gib):
    """Caches of one sequence in 16 bits as unsloth #4757 has them, windows and states apart."""
    counts = profile(find_shape(model))
    held = (counts.kv_full + counts.kv_sparse) * context
    held += counts.kv_window * min(context, counts.window)
    assert 2 * held / 2**30 == pytest.approx(gib, abs=0.005)


@pytest.mark.parametrize(
    ("quantisation", "block"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 128),
        ({"quant_method": "fp8"}, 1),
        ({"quant_method": "awq", "bits": 4, "group_size": 64}, 64),
        ({"quant_method": "gptq", "bits": 4, "group_size": -1}, 1),
        ({"quant_method": "compressed-tensors", "config_groups": group(4, "int")}, 1),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": group(8, "float", block_structure=[128, 64]),
            },
            128,
        ),
        ({"quant_method": "mxfp4", "group_size": 32}, 1),
        (None, 1),
    ],
)
def test_weights_that_share_a_scale_are_counted(quantisation, block):
    assert formats(quantisation).scale_block == block
    assert resolve_formats(formats(quantisation), weights="bf16").scale_block == 1


def test_a_neighbouring_file_says_how_many_weights_share_a_scale():
    assert formats(None, beside=modelopt("NVFP4", group_size=16)).scale_block == 16


def widths(config):
    """Tensor-parallel widths tried within a node, without and with expert parallelism."""
    shape = shape_from_config(config, name="x", source="x")
    tried = spreads(shape, find_chip("h100"), block=shape.formats.scale_block)
    return {tp for tp, _, ep in tried if ep == 1}, {tp for tp, _, ep in tried if ep > 1}


def test_no_layout_cuts_what_engines_cannot_cut():
    """Qwen3 235B in FP8 blocks, Qwen2 72B in AWQ groups, Phi-3 medium with ten cached heads."""
    blocks = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}
    groups = {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}}
    wide = GATED | {"num_attention_heads": 64, "moe_intermediate_size": 1536}
    assert widths(wide) == ({1, 2, 4, 8}, {2, 4, 8})
    assert widths(wide | blocks) == ({1, 2, 4}, {2, 4, 8})
    dense = DENSE | {"hidden_size": 8192, "num_attention_heads": 64, "intermediate_size": 29568}
    assert widths(dense) == ({1, 2, 4, 8}, set())
    assert widths(dense | groups) == ({1}, set())
    heads = {"num_attention_heads": 40, "num_key_value_heads": 10, "intermediate_size": 17920}
    assert widths(DENSE | {"hidden_size": 5120} | heads) == ({1, 2}, set())
    assert widths(GATED | {"num_attention_heads": 28, "head_dim": 128}) == ({1, 2, 4}, {2, 4})


def test_parents_of_quantised_layers_among_those_left_alone_change_nothing():
    left = {"ignore": ["lm_head", *(f"model.layers.{i}.mlp.experts.0" for i in range(8))]}
    groups = {"quant_method": "compressed-tensors", "config_groups": group(4, "int")}
    assert formats(groups | left, model=GATED).experts == "int4"
    names = [f"model.layers.{i}.mlp.experts.0.{m}_proj" for i in range(8) for m in ("up", "down")]
    mixed = formats(groups | {"ignore": names}, model=GATED).experts
    assert mixed == pytest.approx({"int4": 1 / 3, "bf16": 2 / 3})
    awq = {"quant_method": "awq", "bits": 4, "modules_to_not_convert": left["ignore"]}
    assert formats(awq, model=GATED).experts == "bf16"


def test_a_file_of_weights_is_refused_with_a_way_out(tmp_path):
    path = tmp_path / "model-Q4_K_M.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(InputError, match="not a config") as error:
        find_shape(str(path))
    assert "--weights" in (error.value.hint or "")


@pytest.mark.parametrize(
    ("quantisation", "bits"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, 4 + 20 / 128),
        ({"quant_method": "gptq", "bits": 4, "group_size": 32}, 4 + 20 / 32),
        ({"quant_method": "gptq", "bits": 8, "group_size": 128}, 8 + 24 / 128),
        ({"quant_method": "gptq", "bits": 4, "group_size": -1}, 4.25),
        ({"quant_method": "gptq", "bits": 4, "group_size": True}, 4.25),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": group(4, "int", group_size=32, symmetric=True),
            },
            4.5,
        ),
        (
            {
                "quant_method": "hqq",
                "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}},
            },
            4.5,
        ),
        ({"quant_method": "auto-round", "bits": 4, "data_type": "mx_fp", "group_size": 32}, 4.25),
        ({"quant_method": "auto-round", "bits": 4, "data_type": "nv_fp", "group_size": 16}, 4.5),
    ],
)
def test_scales_and_zero_points_are_counted_by_the_group_that_the_file_states(quantisation, bits):
    read = formats(quantisation)
    assert mean_bits(read.dense, integer_scale_bits=read.integer_scale_bits) == bits
    named = resolve_formats(read, weights="int4")
    assert mean_bits(named.dense, integer_scale_bits=named.integer_scale_bits) == 4.25


@pytest.mark.parametrize("more", [{}, {"mode": "mxfp4", "model.layers.0.mlp.up_proj": False}])
@pytest.mark.parametrize("keys", [["quantization"], ["quantization", "quantization_config"]])
def test_weights_in_mlx_format_are_refused_by_name(tmp_path, keys, more):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(DENSE | dict.fromkeys(keys, {"group_size": 64, "bits": 3} | more)))
    with pytest.raises(InputError, match="MLX") as refusal:
        find_shape(str(path))
    assert "--weights" in refusal.value.hint
    assert find_shape(str(path), formats=False).formats.dense == "bf16"


def test_a_float_format_of_auto_round_that_nobody_knows_is_refused():
    with pytest.raises(InputError, match="mx_int"):
        formats({"quant_method": "auto-round", "bits": 4, "data_type": "mx_int4"})
