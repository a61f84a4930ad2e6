"""Model families: parameters against transformers, caches against hand calculation, bad files."""

import json
from pathlib import Path

import pytest

from suffice.errors import ConfigError, InputError
from suffice.silicon.checkpoint.reader import families, shape_from_config
from suffice.silicon.checkpoint.towers import vision_params
from suffice.silicon.models import find_shape, load_shapes, shape_from_file
from suffice.silicon.plan import make_plan
from suffice.silicon.question import PlanRequest, Workload
from suffice.silicon.shapes import profile

LINES = (Path(__file__).parent / "data/shapes.jsonl").read_text("utf-8").splitlines()
MODELS = {line["name"]: line for line in map(json.loads, LINES)}
"""Counts of `python -m tools.shapes`: transformers 5.24.0 on torch's meta device."""

NAS = {
    "model_type": "nemotron-nas",
    "hidden_size": 8192,
    "num_hidden_layers": 3,
    "num_attention_heads": 64,
    "vocab_size": 128256,
    "block_configs": [
        {"attention": {"n_heads_in_group": 8}, "ffn": {"ffn_mult": 5.25}},
        {"attention": {"no_op": True}, "ffn": {"ffn_mult": 1.3125}},
        {"attention": {"replace_with_linear": True}, "ffn": {"no_op": True}},
    ],
}
KIMI_K3 = {
    "model_type": "kimi_k3",
    "text_config": {
        "model_type": "kimi_linear",
        "hidden_size": 7168,
        "intermediate_size": 33792,
        "first_k_dense_replace": 1,
        "num_hidden_layers": 4,
        "num_attention_heads": 96,
        "kv_lora_rank": 512,
        "q_lora_rank": 1536,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "mla_use_output_gate": True,
        "num_experts": 896,
        "num_experts_per_token": 16,
        "num_shared_experts": 2,
        "moe_intermediate_size": 3072,
        "routed_expert_hidden_size": 3584,
        "vocab_size": 163840,
        "linear_attn_config": {
            "full_attn_layers": [4],
            "kda_layers": [1, 2, 3],
            "head_dim": 128,
            "num_heads": 96,
            "short_conv_kernel_size": 4,
            "use_full_rank_gate": True,
        },
    },
}


def read(config):
    return shape_from_config(config, name="x", source="config.json")


def counted(name):
    return profile(read(MODELS[name]["config"]))


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_those_of_the_modelling_code(name):
    counts = counted(name)
    assert counts.total == pytest.approx(MODELS[name]["total"], rel=0.01)
    assert counts.active == pytest.approx(MODELS[name]["active"], rel=0.015)


def test_nineteen_in_twenty_models_are_exact_to_a_thousandth():
    errors = [abs(counted(name).total / MODELS[name]["total"] - 1) for name in MODELS]
    assert sum(error < 0.001 for error in errors) >= 0.85 * len(errors)
    assert len(errors) > 120


@pytest.mark.parametrize(
    ("name", "full", "window", "sparse", "index"),
    [
        ("zai-org--GLM-5.2", 0, 0, 78 * 576, 21 * 128),
        ("zai-org--GLM-5", 0, 0, 78 * 576, 78 * 128),
        ("google--gemma-4-26B-A4B", 5 * 2 * 2 * 512, 25 * 2 * 8 * 256, 0, 0),
        ("meta-llama--Llama-4-Scout-17B-16E-Instruct", 12 * 2048, 36 * 2048, 0, 0),
        ("XiaomiMiMo--MiMo-V2-Flash", 9 * 4 * 320, 39 * 8 * 320, 0, 0),
        ("deepseek-ai--DeepSeek-V4-Pro", 31 * 512 / 128, 61 * 512, 30 * 512 / 4, 30 * 128 / 4),
        ("nvidia--MiniMax-M3-NVFP4", 3 * 1024, 0, 57 * 1024, 57 * 128),
    ],
)
def test_caches_match_a_second_calculation(name, full, window, sparse, index):
    counts = counted(name)
    assert counts.kv_full == pytest.approx(full)
    assert (counts.kv_window, counts.kv_sparse) == (window, sparse)
    assert counts.kv_index == pytest.approx(index)


def test_a_state_does_not_grow_with_the_context():
    counts = counted("nvidia--NVIDIA-Nemotron-3-Super-120B-A12B-FP8")
    assert counts.kv_full == 8 * 2 * 2 * 128
    assert counts.state == 40 * 128 * 64 * 128


def test_layers_that_borrow_a_cache_read_it_and_keep_none():
    counts = counted("default:gemma3n_text")
    assert counts.read_window > counts.kv_window > 0
    assert counts.read_full > counts.kv_full > 0


def test_a_searched_architecture_has_layers_of_its_own_sizes():
    counts, hidden = profile(read(NAS)), 8192
    first = hidden * hidden * 2 + 2 * hidden * 8 * 128 + 3 * hidden * 28672
    second, third = 3 * hidden * 7168, hidden * hidden
    assert counts.attention + counts.dense == first + second + third


def test_latent_experts_and_full_rank_gates_are_counted():
    counts, inner = profile(read(KIMI_K3)), 96 * 128
    kda = 5 * 7168 * inner + (7168 + inner) * 128 + 3 * inner * 4 + 7168 * 96
    assert counts.expert == 3 * 3584 * 3072
    assert counts.shared == 3 * (3 * 7168 * 6144 + 2 * 7168 * 3584)
    mla = counts.attention - 3 * kda
    assert mla == pytest.approx(
        7168 * 1536 + 1536 * 96 * 192 + 7168 * 576 + 512 * 96 * 256 + 2 * 96 * 128 * 7168
    )


def test_towers_and_draft_heads_are_counted_apart():
    shape = read(MODELS["Qwen--Qwen3.5-27B"]["config"])
    assert shape.vision == pytest.approx(MODELS["Qwen--Qwen3.5-27B"]["towers"], rel=0.15)
    assert shape.mtp == pytest.approx(0.42e9, rel=0.02)
    assert profile(shape).total == pytest.approx(26.9e9, rel=0.002)


def test_global_layers_of_a_tower_come_on_top():
    """Llama 3.2 11B: 10.67 billion parameters, 9.78 billion of them the language model's."""
    tower = {"hidden_size": 1280, "intermediate_size": 5120, "patch_size": 14}
    tower |= {"num_hidden_layers": 32, "num_global_layers": 8}
    assert vision_params({"vision_config": tower}) == pytest.approx(0.87e9, rel=0.12)


def test_an_embedding_that_is_tied_by_default_is_counted_once():
    config = MODELS["default:gemma2"]["config"]
    tied = {key: value for key, value in config.items() if key != "tie_word_embeddings"}
    assert profile(read(tied)).embedding == 0
    untied = profile(read(tied | {"tie_word_embeddings": False}))
    assert untied.embedding == config["vocab_size"] * config["hidden_size"]


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("zai-org--GLM-5.2", {"indexer_types": ["full"] * 5}, "indexer_types has 5 entries"),
        ("zai-org--GLM-5.2", {"mlp_layer_types": ["dense"] * 300}, "mlp_layer_types has 300"),
        ("Qwen--Qwen3-32B", {"layer_types": ["spiral"] * 64}, "spiral"),
        ("XiaomiMiMo--MiMo-V2-Flash", {"hybrid_layer_pattern": [0, 1]}, "hybrid_layer_pattern"),
        ("deepseek-ai--DeepSeek-V4-Pro", {"compress_ratios": [4] * 12}, "compress_ratios"),
        (
            "nvidia--Nemotron-H-56B-Base-8K",
            {"hybrid_override_pattern": "M-M*"},
            "hybrid_override_pattern has 4 letters",
        ),
        ("Qwen--Qwen3-32B", {"kv_lora_rank": 512}, "kv_lora_rank"),
        ("meta-llama--Meta-Llama-3.1-8B", {"compress_ratios": [4] * 32}, "compress_ratios"),
        ("meta-llama--Meta-Llama-3.1-8B", {"num_key_value_heads": "eight"}, "key_value_heads"),
        ("meta-llama--Meta-Llama-3.1-8B", {"num_key_value_heads": 12}, "share 12 cached heads"),
        ("meta-llama--Meta-Llama-3.1-8B", {"num_key_value_heads": 64}, "share 64 cached heads"),
        ("Qwen--Qwen3-235B-A22B", {"num_experts_per_tok": 256}, "256 active experts of 128"),
        ("Qwen--Qwen3-235B-A22B", {"use_cla": True}, "use_cla"),
    ],
)
def test_lists_of_the_wrong_length_and_foreign_fields_are_refused_by_name(name, changes, words):
    with pytest.raises(InputError, match=words):
        read(MODELS[name]["config"] | changes)


@pytest.mark.parametrize(
    ("text", "billions"),
    [
        ({"model_type": "llama", "vocab_size": 32064}, 6.739),  # LLaVA 1.5 7B
        (
            {
                "model_type": "mistral",
                "hidden_size": 5120,
                "head_dim": 128,
                "num_hidden_layers": 40,
                "sliding_window": None,
                "vocab_size": 131072,
            },
            12.247,  # Pixtral 12B
        ),
    ],
)
def test_a_text_part_leaves_out_what_is_its_classs_own(text, billions):
    shape = read({"model_type": "llava", "text_config": text})
    assert profile(shape).total / 1e9 == pytest.approx(billions, rel=1e-3)
    assert not profile(shape).kv_window
    with pytest.raises(InputError, match="no field"):
        read(text)


@pytest.mark.parametrize(
    ("architecture", "generates"),
    [
        ("LlamaForSequenceClassification", False),
        ("InternLM2ForRewardModel", False),
        ("MistralModel", False),
        ("LlamaBidirectionalModel", False),
        ("InternVLChatModel", True),
        ("ChatGLMModel", True),
        ("Qwen3ForCausalLM", True),
    ],
)
def test_a_model_that_generates_nothing_is_refused(architecture, generates):
    config = MODELS["Qwen--Qwen3-32B"]["config"] | {"architectures": [architecture]}
    if generates:
        assert read(config).hidden == 5120
        return
    with pytest.raises(InputError, match="generates no tokens"):
        read(config)


def test_layers_named_twice_or_not_at_all_are_refused():
    linear = KIMI_K3["text_config"]["linear_attn_config"]
    for kda in ([1, 2], [1, 2, 3, 4], [1, 2, 9]):
        broken = KIMI_K3["text_config"] | {"linear_attn_config": linear | {"kda_layers": kda}}
        with pytest.raises(InputError, match="kda_layers"):
            read(KIMI_K3 | {"text_config": broken})


def test_an_unknown_family_is_refused_with_the_nearest_name_and_a_way_out():
    with pytest.raises(InputError, match="--model-file"):
        read({"model_type": "llamma", "hidden_size": 4096})
    assert len(families()) > 100


ENTRY = """
[model.mine]
source = "my own card"
date = "2026-11-29"
hidden = 4096
vocab = 100000
max_context_tokens = 8192
attention = [{ kind = "gqa", layers = 32, heads = 32, kv_heads = 8, head_dim = 128 }]
dense = [{ layers = 2, width = 12288 }]
experts = { layers = 30, count = 64, active = 4, width = 1536, shared_width = 1536 }
formats = { experts = "nvfp4" }
"""


def test_a_model_of_ones_own_is_planned(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(ENTRY, "utf-8")
    shape = find_shape("mine", load_shapes(path))
    assert find_shape("llama-3-8b", load_shapes(path)).name == "llama-3-8b"
    work = Workload(input_tokens=1000, output_tokens=100)
    plan = make_plan(PlanRequest(model=shape, workload=work, chips=("h100",)))
    assert plan.model == "mine"
    assert plan.formats.experts == "nvfp4"
    assert find_shape("mine-fp8", load_shapes(path)).formats.attention == "fp8"


@pytest.mark.parametrize(
    "text", ["", "[model.x]\nhidden = 3\n", "model = 3", "[model", "[modell.x]"]
)
def test_a_broken_model_file_is_refused(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=r"mine\.toml"):
        load_shapes(path)


def test_a_workload_longer_than_the_context_is_refused():
    work = Workload(input_tokens=130_000, output_tokens=2_000)
    with pytest.raises(InputError, match="131072"):
        make_plan(PlanRequest(model=find_shape("llama-3-8b"), workload=work, chips=("h100",)))


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("Qwen/Qwen3-30B-A3B", 40960),
        ("Qwen/Qwen3-30B-A3B-Thinking-2507-FP8", 262144),
        ("Qwen/Qwen3-Coder-30B-A3B-Instruct", 262144),
        ("meta-llama/Meta-Llama-3-8B-Instruct", 8192),
        ("meta-llama/Llama-3.1-8B-Instruct", 131072),
        ("moonshotai/Kimi-K2-Instruct-0905", 262144),
    ],
)
def test_names_of_one_shape_may_have_contexts_of_their_own(name, tokens):
    assert find_shape(name).max_context_tokens == tokens


def test_of_a_model_that_also_speaks_the_part_that_thinks_is_read():
    text = MODELS["Qwen--Qwen3-32B"]["config"] | {"model_type": "qwen2_5_omni_text"}
    speaks = {"talker_config": {"model_type": "qwen2_5_omni_talker", "hidden_size": 896}}
    quantised = {"quantization_config": {"quant_method": "fp8"}}
    whole = {"model_type": "qwen2_5_omni", "thinker_config": {"text_config": text}}
    shape = read(whole | speaks | quantised)
    assert profile(shape).total == profile(read(text | {"model_type": "qwen2"})).total
    assert shape.formats.attention == "fp8"


@pytest.mark.parametrize(
    ("stated", "scaling", "longest"),
    [
        (32768, {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}, 131072),
        (
            163840,
            {"rope_type": "yarn", "factor": 40, "original_max_position_embeddings": 4096},
            163840,
        ),
        (
            1048576,
            {"rope_type": "deepseek_yarn", "factor": 32, "original_max_position_embeddings": 32768},
            1048576,
        ),
        (
            32768,
            {"rope_type": "telechat3-yarn", "factor": 4, "original_max_position_embeddings": 8192},
            32768,
        ),
        (131072, {"rope_type": "linear", "factor": 8.0}, 131072),
        (8192, {"rope_type": "yarn", "factor": 4.0}, 8192),
        (8192, None, 8192),
    ],
)
def test_a_context_is_lengthened_once(stated, scaling, longest):
    """By the factor of YaRN where the file states the original context, and never twice."""
    config = MODELS["Qwen--Qwen3-32B"]["config"] | {"max_position_embeddings": stated}
    for field in ("rope_scaling", "rope_parameters"):
        read_shape = read(config | {"rope_scaling": None} | {field: scaling})
        assert read_shape.max_context_tokens == longest


def test_a_folder_is_read_as_its_configuration(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(MODELS["Qwen--Qwen3-32B"]["config"]))
    assert find_shape(str(tmp_path)) == shape_from_file(tmp_path / "config.json")


HUNYUAN = {
    "model_type": "hunyuan_v1_moe",
    "hidden_size": 4096,
    "intermediate_size": 3072,
    "moe_intermediate_size": [3072] * 32,
    "num_experts": 64,
    "moe_topk": [8] * 32,
    "num_shared_expert": [1] * 32,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 128167,
    "tie_word_embeddings": True,
}
LING = {
    "model_type": "bailing_moe_v2",
    "hidden_size": 8192,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_experts": 256,
    "num_shared_experts": 1,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "first_k_dense_replace": 4,
    "vocab_size": 157184,
}


@pytest.mark.parametrize(
    ("config", "total", "active"),
    [(HUNYUAN, 80.4e9, 12.75e9), (LING, 999.7e9, 49.77e9)],
    ids=["Hunyuan-A13B", "Ling-1T"],
)
def test_families_of_2025_have_their_published_sizes(config, total, active):
    """Published: 80B with 13B active, and 1T with about 50B active."""
    counts = profile(shape_from_config(config, name="x", source="x", neighbour=None))
    assert counts.total == pytest.approx(total, rel=0.01)
    assert counts.active == pytest.approx(active, rel=0.01)


def test_a_number_listed_for_every_layer_is_that_number_and_its_length_is_checked():
    short = HUNYUAN | {"moe_intermediate_size": [3072] * 30}
    with pytest.raises(InputError, match="30 entries for 32 layers"):
        shape_from_config(short, name="x", source="x", neighbour=None)
    mixed = HUNYUAN | {"moe_topk": [8] * 31 + [4]}
    with pytest.raises(InputError, match="num_experts_per_tok"):
        shape_from_config(mixed, name="x", source="x", neighbour=None)
