"""Training and export of the reference model: resumes exactly, and llama.cpp agrees with it."""

import asyncio
import json
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest
from msgspec import structs

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402
from tools.reference_model.__main__ import train  # noqa: E402
from tools.reference_model.export import save_folder, save_mean, to_gguf  # noqa: E402
from tools.reference_model.model import (  # noqa: E402
    Balance,
    build_model,
    dense_config,
    shipped_config,
)
from tools.reference_model.questions import Spec, questions, read_spec  # noqa: E402
from tools.reference_model.solutions import solution  # noqa: E402
from tools.reference_model.tokenizer import THINK, THOUGHT, build_tokenizer, prompt  # noqa: E402
from tools.reference_model.train import CHECKPOINT, LOG, Schedule, Training  # noqa: E402
from transformers import Mistral4ForCausalLM  # noqa: E402

from suffice.engines.embedded import packaged_path  # noqa: E402
from suffice.errors import InputError  # noqa: E402
from suffice.types import Effort  # noqa: E402

BATCH = 1024


@pytest.fixture(scope="module")
def spec() -> Spec:
    whole = read_spec(Path(__file__).parents[2] / "benchmarks" / "effort" / "effort.toml")
    families = {name: whole.families[name] for name in ("gcd", "closed_set")}
    return structs.replace(whole, sizes=type(whole.sizes)(held_out=4), families=families)


def schedule(steps: int, **changes: Any) -> Schedule:
    return Schedule(tokens=steps * BATCH, batch_tokens=BATCH, warm_up_steps=4, **changes)


def losses(training: Training, steps: int) -> list[float]:
    batches = training._batches()
    return [training._learn(next(batches))[0] for _ in range(steps)]


def test_a_training_that_was_cut_off_goes_on_with_the_same_losses(
    spec: Spec, tmp_path: Path
) -> None:
    whole = losses(Training(spec, tmp_path / "whole", schedule=schedule(50)), 8)
    first = Training(spec, tmp_path / "parts", schedule=schedule(50))
    begun = losses(first, 5)
    first.save()
    rest = losses(Training(spec, tmp_path / "parts", schedule=schedule(50)), 3)
    assert begun + rest == pytest.approx(whole, abs=1e-3)
    assert whole[-1] < whole[0]


def test_a_damaged_checkpoint_is_refused_with_what_to_do(spec: Spec, tmp_path: Path) -> None:
    training = Training(spec, tmp_path, schedule=schedule(50))
    training.save()
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match="cannot resume") as caught:
        Training(spec, tmp_path, schedule=schedule(50))
    assert "remove the file" in (caught.value.hint or "")


def test_a_loss_that_is_no_number_stops_before_it_spoils_the_weights(
    spec: Spec, tmp_path: Path
) -> None:
    training = Training(spec, tmp_path, schedule=schedule(50))
    router = training.model.model.layers[0].mlp.gate.weight
    before = router.detach().clone()
    with torch.no_grad():
        training.model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="at step 1") as caught:
        training.run(lambda _progress: None)
    assert "lower rate" in (caught.value.hint or "")
    assert torch.equal(router, before)


def test_the_rate_rises_stays_and_falls() -> None:
    plan = Schedule(tokens=1000, warm_up_steps=10, peak_rate=1.0, falling_share=0.5)
    assert plan.rate(0, tokens=0) == pytest.approx(0.1)
    assert plan.rate(10, tokens=100) == plan.rate(20, tokens=500) == 1.0
    assert plan.rate(50, tokens=750) == pytest.approx(0.5)
    assert plan.rate(90, tokens=1000) == pytest.approx(0.05)


def test_balance_is_one_when_all_experts_are_used_alike() -> None:
    tokenizer = build_tokenizer()
    model = build_model(shipped_config(tokenizer))
    tokens = torch.randint(0, 200, (4, 64))
    with Balance(model) as balance:
        model(input_ids=tokens)
    even = balance.loss.item()
    for layer in model.model.layers:
        torch.nn.init.normal_(layer.mlp.gate.weight, std=2.0)
    with Balance(model) as balance:
        model(input_ids=tokens)
    assert 0.95 < even < balance.loss.item()
    assert balance.fullest > 1.0


def test_transformers_and_llama_cpp_choose_the_same_tokens(spec: Spec, tmp_path: Path) -> None:
    """Random weights, with routers so sure that rounding turns no choice of experts around."""
    tokenizer = build_tokenizer()
    torch.manual_seed(0)
    model = build_model(shipped_config(tokenizer)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.normal_(0, 1.0 if "gate.weight" in name else 0.05)
    save_folder(model, tokenizer, tmp_path / "folder")
    to_gguf(tmp_path / "folder", tmp_path / "model.gguf", kind="f32")
    model = Mistral4ForCausalLM.from_pretrained(tmp_path / "folder").eval()
    texts = [
        prompt(question.text, effort) + _thinking(question, effort)
        for family in spec.families
        for question in islice(questions(spec, family, seed=1), 8)
        for effort in (Effort.NONE, Effort.LOW, Effort.HIGH)
    ]
    served = asyncio.run(_first_tokens(tmp_path / "model.gguf", texts))
    shown = 0
    for text, (tokens, best, logprob) in zip(texts, served, strict=True):
        ids = tokenizer.encode(text).ids
        assert tokens == ids
        with torch.no_grad():
            expected = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        if best is not None:  # a control token or part of a character shows nothing
            shown += 1
            assert float(expected[best]) == pytest.approx(logprob, abs=0.02)
            assert float(expected.max() - expected[best]) < 0.02
    assert shown > len(texts) / 4


def test_the_mean_of_models_lies_between_them(tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    folders = [tmp_path / name for name in ("first", "second")]
    models = []
    for seed, folder in enumerate(folders):
        torch.manual_seed(seed)
        models.append(build_model(shipped_config(tokenizer)))
        save_folder(models[-1], tokenizer, folder)
    save_mean(folders, tmp_path / "mean")
    mean = Mistral4ForCausalLM.from_pretrained(tmp_path / "mean").state_dict()
    first, second = (model.state_dict() for model in models)
    assert not torch.equal(first["lm_head.weight"], second["lm_head.weight"])
    for name, tensor in mean.items():
        torch.testing.assert_close(tensor, (first[name] + second[name]) / 2)


def test_models_of_different_shapes_have_no_mean(tmp_path: Path) -> None:
    for name, rows in (("wide", 3), ("narrow", 2)):
        (tmp_path / name).mkdir()
        save_file({"weight": torch.zeros(rows, 2)}, tmp_path / name / "model.safetensors")
    with pytest.raises(InputError, match="different shapes"):
        save_mean([tmp_path / "wide", tmp_path / "narrow"], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


def _thinking(question: Any, effort: Effort) -> str:
    text = "".join(step.text for step in solution(question, effort, Random(0)))
    return f"{THINK}{text}{THOUGHT}{question.answer}" if text else ""


async def _first_tokens(gguf: Path, texts: list[str]) -> list[tuple[list[int], int | None, float]]:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.hostnames, params.port = str(gguf), ["127.0.0.1"], 0
    params.n_ctx, params.n_parallel = 1024, 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.fit_params, params.ui, params.verbosity = False, False, 0
    server = xllamacpp.Server(params)
    found = []
    async with aiohttp.ClientSession(server.listening_address) as session:
        for text in texts:
            body = {"content": text, "parse_special": True}
            async with session.post("/tokenize", json=body) as reply:
                tokens = (await reply.json())["tokens"]
            body = {"prompt": text, "n_predict": 1, "n_probs": 1, "temperature": 0}
            async with session.post("/completion", json=body) as reply:
                told = (await reply.json()).get("completion_probabilities")
            first = told[0]["top_logprobs"][0] if told else {"id": None, "logprob": 0.0}
            found.append((tokens, first["id"], first["logprob"]))
    return found


def test_a_dense_twin_has_the_parameters_that_the_model_uses() -> None:
    tokenizer = build_tokenizer()
    sparse = build_model(shipped_config(tokenizer))
    width = shipped_config(tokenizer).moe_intermediate_size
    active = build_model(dense_config(tokenizer, intermediate=5 * width))
    routers = sum(layer.mlp.gate.weight.numel() for layer in sparse.model.layers)
    unused = 124 * 3 * width * sparse.config.hidden_size * sparse.config.num_hidden_layers
    size = sum(each.numel() for each in sparse.parameters())
    assert sum(each.numel() for each in active.parameters()) == size - routers - unused


def test_progress_and_accuracy_are_logged(spec: Spec, tmp_path: Path) -> None:
    training = Training(spec, tmp_path, schedule=schedule(20, judged=2))
    seen = []
    training.run(seen.append)
    assert [now.step for now in seen] == [20]
    entries = [json.loads(line) for line in (tmp_path / LOG).read_text("utf-8").splitlines()]
    assert entries[0]["loss"] > 0
    assert set(entries[-1]["accuracy"]) == set(spec.families)
    assert set(entries[-1]["accuracy"]["gcd"]) == {"none", "low", "high"}


def test_a_training_goes_on_from_the_model_that_ships(spec: Spec, tmp_path: Path) -> None:
    fresh = Training(spec, tmp_path / "fresh", schedule=schedule(50))
    taught = Training(
        spec, tmp_path / "taught", schedule=schedule(50), start=packaged_path("suffice-moe-13m")
    )
    assert losses(fresh, 1)[0] > 5
    assert losses(taught, 1)[0] < 0.1
    other = tmp_path / "other.gguf"
    other.write_bytes(b"GGUF")
    with pytest.raises(InputError, match="cannot continue from"):
        Training(spec, tmp_path / "other", schedule=schedule(50), start=other)


def test_a_kind_of_step_that_no_solution_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no solution has steps of the kind 'colums'") as refused:
        train(tmp_path / "run", without=["colums"])
    assert "columns" in str(refused.value.hint)
    assert not (tmp_path / "run").exists()
