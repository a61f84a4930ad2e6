"""From a workload file and trials to the cells: what is replayed, and what is refused."""

import json
import tomllib
from datetime import timedelta
from pathlib import Path
from random import Random

import msgspec
import numpy as np
import pytest
from compound_support import NOW, WORKLOAD, make_compound_trials, write_workload
from msgspec.structs import replace

from suffice.cli.main import main
from suffice.compound import CompoundWorkload, Grade, Replay, compound_trials, read_workload, replay
from suffice.compound.answering import FRACTIONS
from suffice.encoders.base import default_encoder
from suffice.errors import ConfigError, InputError
from suffice.meter import charge
from suffice.silicon.models import find_shape
from suffice.silicon.plan import make_plan, price_block
from suffice.silicon.question import PlanRequest, Slo, Workload
from suffice.silicon.speculation import Speculation
from suffice.trials.table import split_rows
from suffice.types import Trial, TrialStatus
from support import write_jsonl

CLOSE = 1e-9


def toml_text(tree: dict[str, object]) -> str:
    """Write a workload as TOML: JSON's values, with inline tables below the second level."""

    def inline(value: object) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{k} = {inline(v)}" for k, v in value.items()) + "}"
        return json.dumps(value, default=str)

    lines = [
        f"{k} = {v if k == 'fixed' else inline(v)}"
        for k, v in tree.items()
        if not isinstance(v, dict)
    ]
    for table, entries in tree.items():
        for name, entry in entries.items() if isinstance(entries, dict) else ():
            lines.append(f"[{table}.{name}]")
            lines += [f"{key} = {inline(value)}" for key, value in entry.items()]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def workload(tmp_path_factory: pytest.TempPathFactory) -> CompoundWorkload:
    return read_workload(write_workload(tmp_path_factory.mktemp("workload")))


@pytest.fixture(scope="module")
def trials() -> list[Trial]:
    return make_compound_trials()


@pytest.fixture(scope="module")
def replayed(workload: CompoundWorkload, trials: list[Trial]) -> Replay:
    return replay(workload, trials, now=NOW, encoder=default_encoder())


# -- the cells -----------------------------------------------------------------------------------


def test_with_no_lever_the_reference_answers_everything_at_the_first_prices(
    workload: CompoundWorkload, trials: list[Trial], replayed: Replay
) -> None:
    base, price = replayed.factorial.baseline, workload.prices()["dense", "old"]
    usage = {trial.request_id: trial.usage for trial in trials if trial.rung == "high"}
    by_hand = [float(charge(usage[i], price, at=NOW).usd) for i in base.requests.ids]
    assert base.usd == pytest.approx(by_hand, rel=CLOSE)
    assert base.as_reference
    assert (base.decodes == 1).all()
    assert base.grade is Grade.MODELLED


def test_another_deployment_changes_only_the_price(replayed: Replay) -> None:
    base, chip = replayed.factorial.baseline, replayed.factorial.cell("chip")
    assert chip.usd == pytest.approx(base.usd / 2, rel=CLOSE)
    assert chip.answer_work == pytest.approx(base.answer_work, rel=CLOSE)
    sparse = replayed.factorial.cell("sparse")
    rates = (8 * 4) ** 0.5, (4 * 3.2) ** 0.5
    assert sparse.answer_work == pytest.approx(base.answer_work * rates[1] / rates[0], rel=CLOSE)
    assert sparse.as_reference
    assert sparse.grade is Grade.MEASURED


def test_a_prefix_cache_and_guessed_tokens_are_a_lever_of_silicon(
    trials: list[Trial], tmp_path: Path
) -> None:
    """The same chip before and after, each priced by the block that `suffice plan` writes."""
    guessing = Speculation(tokens=3, acceptance=0.7, draft_cost=0.05)
    plain, changed = (
        make_plan(
            PlanRequest(
                model=find_shape("llama-3-70b"),
                workload=Workload(input_tokens=4000, output_tokens=400, cache_hit=hit),
                chips=("h200",),
                slo=Slo(tpot_s=0.03),
                speculation=speculation,
            )
        )
        for hit, speculation in ((0.0, None), (0.8, guessing))
    )
    prices = [
        tomllib.loads(price_block(p.ranking[0], name="x", plan=p, date="2026-11-30"))["price"]["x"]
        for p in (plain, changed)
    ]
    tree = tomllib.loads(WORKLOAD)
    tree["lever"] = {"serving": {"vector": "silicon", "before": "h200", "after": "h200, guessing"}}
    tree["deployment"] = {
        name: {"model": "llama", "chip": chip, "grade": "modelled", "price": price}
        for (name, chip), price in zip(
            (("plain", "h200"), ("guessing", "h200, guessing")), prices, strict=True
        )
    }
    workload = read_workload(write_workload(tmp_path, text=toml_text(tree)))
    cells = replay(workload, trials, now=NOW, encoder=default_encoder()).factorial
    base, after = cells.baseline, cells.cell("serving")
    assert 0.2 < after.usd.sum() / base.usd.sum() < 0.9
    assert (after.output_tokens == base.output_tokens).all()
    assert after.quality == pytest.approx(base.quality)
    assert after.grade is Grade.MODELLED


def test_a_prediction_costs_one_call_and_decodes_nothing(replayed: Replay) -> None:
    cell = replayed.factorial.cell("latent")
    guessed = cell.decodes == 0
    assert 0.3 < guessed.mean() < 0.8
    assert cell.usd[guessed] == pytest.approx(2e-8)
    thinking = np.array([part == "reasoning" for part in cell.requests.parts])
    assert (cell.other_usd[thinking] == 0).all(), "these were never asked of the guess"
    assert (cell.other_usd[~thinking] == 2e-8).all(), "an abstention is paid too"


def test_effort_pays_for_every_attempt(trials: list[Trial], replayed: Replay) -> None:
    cell = replayed.factorial.cell("effort")
    tokens = {(t.request_id, t.rung): t.usage.output_tokens.tokens for t in trials}
    for request_id, decodes, written in zip(
        cell.requests.ids, cell.decodes, cell.output_tokens, strict=True
    ):
        cheap, dear = tokens[request_id, "none"], tokens[request_id, "high"]
        assert (decodes, written) in {(1, cheap), (1, dear), (2, cheap + dear)}
    assert cell.usd.sum() < 0.7 * replayed.factorial.baseline.usd.sum()


def test_answering_cells_are_certified_at_a_shared_delta(replayed: Replay) -> None:
    certified = {c.levers & {"latent", "effort"}: c for c in replayed.factorial.cells}
    for levers, cell in certified.items():
        if levers:
            assert cell.certificate is not None
            assert cell.certificate.delta == pytest.approx(0.2 / 3)
            assert cell.certificate.terms.scope.out_of_scope_share > 0
        else:
            assert cell.certificate is None


def test_figures_are_about_clusters_that_neither_fitted_nor_certified(
    trials: list[Trial], replayed: Replay
) -> None:
    requests = replayed.factorial.baseline.requests
    ids = {trial.request_id for trial in trials}
    inside = set(requests.clusters)
    assert all(i in requests.ids for i in ids if i.rpartition("/")[0] in inside)
    assert len(requests) / len(ids) == pytest.approx(FRACTIONS[2], abs=0.1)


def test_the_competent_baseline_answers_each_text_once_on_the_cheapest_chip(
    trials: list[Trial], replayed: Replay, workload: CompoundWorkload
) -> None:
    cell, price = replayed.competent, workload.prices()["sparse", "new"]
    seen, repeated = set(), {}
    for trial in trials:
        if trial.rung == "high":
            repeated[trial.request_id] = trial.text in seen
            seen.add(trial.text)
    again = np.array([repeated[i] for i in cell.requests.ids])
    assert again.any()
    assert (cell.usd[again] == 0).all()
    usage = {t.request_id: t.usage for t in trials if t.rung == "high"}
    by_hand = [float(charge(usage[i], price, at=NOW).usd) for i in cell.requests.ids]
    assert cell.usd[~again] == pytest.approx(np.array(by_hand)[~again], rel=CLOSE)
    assert cell.as_reference, "no single cheap effort keeps the quality here"


@pytest.mark.slow
def test_the_same_trials_give_the_same_figures(
    workload: CompoundWorkload, trials: list[Trial]
) -> None:
    one, two = (compound_trials(workload, trials, made=NOW) for _ in range(2))
    assert msgspec.json.encode(one) == msgspec.json.encode(two)
    assert one.certified
    assert one.reduction.value > one.reduction_competent.value > 1


def test_without_a_certificate_the_reference_answers_and_a_note_says_so(
    workload: CompoundWorkload, trials: list[Trial]
) -> None:
    wrong = [replace(t, quality=0.0) if t.rung == "guess" and t.quality else t for t in trials]
    found = replay(workload, wrong, now=NOW, encoder=default_encoder())
    cell = found.factorial.cell("latent")
    assert cell.usd == pytest.approx(found.factorial.baseline.usd)
    assert cell.as_reference
    assert any(note.startswith("latent: no risk below") for note in found.notes)
    both, effort = found.factorial.cell("latent", "effort"), found.factorial.cell("effort")
    assert both.usd == pytest.approx(effort.usd), "the lever that can be certified works alone"
    assert both.certificate == effort.certificate
    assert any(note.startswith("effort + latent: no risk below") for note in found.notes)


def test_one_lever_alone_needs_no_other(tmp_path: Path, trials: list[Trial]) -> None:
    text = WORKLOAD[: WORKLOAD.index("[lever.latent]")] + (
        '[lever.chip]\nvector = "silicon"\nbefore = "old"\nafter = "new"\n'
        + WORKLOAD[WORKLOAD.index("[deployment.dense-old]") : WORKLOAD.index("[deployment.sparse")]
    )
    found = compound_trials(read_workload(write_workload(tmp_path, text=text)), trials, made=NOW)
    assert found.reduction.value == pytest.approx(2, rel=CLOSE)
    assert not found.certified, "there is no promise to make: the reference answers"
    assert found.interactions == ()
    assert any("'none' belongs to no lever" in note for note in found.notes)


# -- what is refused -----------------------------------------------------------------------------


def change(trials: list[Trial], rung: str, **changed: object) -> list[Trial]:
    """Change the second trial of a rung."""
    at = [i for i, trial in enumerate(trials) if trial.rung == rung][1]
    return [replace(t, **changed) if i == at else t for i, t in enumerate(trials)]


def no_count(trials: list[Trial]) -> list[Trial]:
    usage = replace(trials[2].usage, output_tokens=None)
    return change(trials, "none", usage=usage)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda t: [x for x in t if (x.request_id, x.rung) != ("think1", "high")],
         "'high' has no trial for request 'think1'"),
        (lambda t: change(t, "none", status=TrialStatus.FAILED, quality=None),
         "'none' has a trial that is failed for request 'think1'"),
        (lambda t: change(t, "guess", status=TrialStatus.UNSCORED, quality=None), "unscored"),
        (lambda t: [replace(x, group="else") if x.request_id == "think1" else x for x in t],
         "'else', which is in no part"),
        (lambda t: change(t, "high", text="else"), "'think1' has two texts"),
        (lambda t: change(t, "high", text=""), "'think1' has no text"),
        (lambda t: [x for x in t if x.group != "camera"], "no request belongs to part 'stream'"),
        (no_count, "charge of rung 'none' for request 'think1' is unknown"),
        (lambda t: [replace(x, scorer="rubric") for x in t], "a judge marked"),
        (lambda t: t[: next(i for i, x in enumerate(t) if x.request_id == "think100")],
         "certifying requests are too few"),
    ],
)  # fmt: skip
def test_incomplete_trials_are_refused_by_name(
    workload: CompoundWorkload, trials: list[Trial], spoil, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        replay(workload, spoil(trials), now=NOW, encoder=default_encoder())


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("ask_usd", "ask_dollars", "lever.latent.ask_dollars: unknown key"),
        ('ask_usd = "0.00000002"', 'ask_usd = "0"', "ask_usd: 0 is no cost"),
        ('ask_usd = "0.00000002"\n', "", "ask_usd: missing for a paradigm lever"),
        ('after = "new"', 'after = "new"\nrungs = ["x"]', "rungs: unknown for a silicon lever"),
        ('vector = "output"', 'vector = "paradigm"\nask_usd = "1"', "each of another vector"),
        ('rungs = ["none"]', 'rungs = ["high"]', "named twice, or is the reference"),
        ("share = 0.4", "share = 0.5", "sum to 1.1, not 1"),
        ('out_of_scope = ["elsewhere"]', 'out_of_scope = ["intent"]', "did you mean 'intents'"),
        ('groups = ["camera"]', 'groups = ["sums"]', "stands in two parts"),
        ('chip = "new"\ngrade = "modelled"', 'chip = "newer"\ngrade = "modelled"',
         "no price of 'dense' on 'new'"),
        ("alpha = 0.05", "alpha = 5", "alpha must lie between"),
        ('grade = "measured"', 'grade = "guessed"', "grade"),
        ("fixed = 2026-11-20", 'fixed = "soon"', "fixed"),
        ('name = "thirds"', "name = thirds", "is not TOML"),
    ],
)  # fmt: skip
def test_the_workload_file_is_strict(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in WORKLOAD
    with pytest.raises(ConfigError, match=said):
        read_workload(write_workload(tmp_path, text=WORKLOAD.replace(old, new, 1)))


def test_a_missing_workload_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_workload(tmp_path / "none.toml")


# -- the command ---------------------------------------------------------------------------------


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["compound", *arguments])
    return ended.value.code or 0


def test_one_command_from_trials_to_page_and_numbers(
    tmp_path: Path, trials: list[Trial], capfd: pytest.CaptureFixture[str]
) -> None:
    files = [
        str(write_workload(tmp_path)),
        str(write_jsonl(tmp_path / "trials.jsonl", trials)),
    ]
    assert run(*files, "--json") == 0
    found = msgspec.json.decode(capfd.readouterr().out)
    assert found["certified"] is True
    assert found["reduction"]["value"] > found["reduction_competent"]["value"]
    assert len(found["cells"]) == 16
    page = tmp_path / "page.html"
    assert run(*files, "--out", str(page)) == 0
    out = capfd.readouterr().out
    assert "all levers together" in out
    assert "certified at alpha 0.05" in out
    assert page.read_text("utf-8").startswith("<!doctype html>")


def test_the_command_exits_with_3_where_nothing_is_certified(
    tmp_path: Path, trials: list[Trial]
) -> None:
    wrong = [t if t.rung == "high" else replace(t, quality=0.0) if t.quality else t for t in trials]
    files = [str(write_workload(tmp_path)), str(write_jsonl(tmp_path / "trials.jsonl", wrong))]
    assert run(*files, "--json") == 3


def test_certificates_lapse_as_the_file_says(workload: CompoundWorkload, replayed: Replay) -> None:
    certificate = replayed.factorial.full.certificate
    assert certificate.terms.lapses_at == NOW + timedelta(days=30)


def test_the_splits_do_not_depend_on_the_order_of_the_file() -> None:
    names = [f"c{at}" for at in range(40) for _ in range(3)]
    shuffled = Random(5).sample(names, len(names))
    for one, other in zip(split_rows(names, seed=1), split_rows(shuffled, seed=1), strict=True):
        assert {names[row] for row in one} == {shuffled[row] for row in other}
