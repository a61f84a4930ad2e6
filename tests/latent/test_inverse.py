"""Latent multiple choice: the packaged questions, the public layout, and honest figures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from tools.data import transitions as generator

from suffice.encoders.base import default_encoder
from suffice.encoders.clips import Clip, ClipEncoder
from suffice.errors import InputError
from suffice.evidence.published import worldprediction
from suffice.latent.inverse import embed_transitions, measure_choices
from suffice.latent.transitions import Transition, packaged_transitions, read_transitions
from support import write_jsonl

LABELS = ("screw the leg", "paint the leg", "turn the table", "saw the board")


class ColourEncoder:
    """Embeds an image as its mean colour."""

    dim, fingerprint = 3, "mean colour"

    def embed(self, images: Any) -> Any:
        return (images.astype(np.float32).mean(axis=(1, 2)) + 1.0) / 255.0


class DirectionEncoder:
    """Embeds a state as a sum of directions, and an action as the direction that it adds."""

    fingerprint = "directions"

    def embed(self, views: Any) -> Any:
        return np.array([[float(c) for c in view] for view in views], np.float32)


def segment(uid: str, start: float, end: float, label: str | None = None) -> dict[str, Any]:
    row = {"segment_uid": uid, "video": f"{uid.split('#')[0]}.avi"}
    row |= {"segment_start_time": start, "segment_end_time": end}
    return row if label is None else row | {"action_label": label}


def annotations(path: Path, samples: int = 10) -> Path:
    """Write the layout of github.com/facebookresearch/WorldPrediction: collection, sample."""
    rows = {
        f"sample|COIN|{n}": {
            "states": segment(f"v{n}#0", 0.0, 1.0, LABELS[n % 4]),
            "candidates": [segment(f"c{k}#0", 0.0, 1.0, LABELS[k]) for k in range(4)],
            "ground_truth": f"c{n % 4}#0",
        }
        for n in range(samples)
    }
    path.write_text(json.dumps({"COIN": rows}))
    return path


def test_the_packaged_questions_are_those_of_the_program(tmp_path: Path) -> None:
    generator.OUT, packaged = tmp_path / "again.gz", generator.OUT
    try:
        generator.main()
        assert read_transitions(tmp_path / "again.gz") == packaged_transitions()
    finally:
        generator.OUT = packaged


def test_a_question_has_one_right_action_and_one_state_leaves_two() -> None:
    for question in packaged_transitions():
        assert len(set(question.actions)) == 4
        thing = question.cluster.partition("/")[2]
        assert thing in str(question.right_action)
        assert question.before != question.after


def test_accuracy_on_the_packaged_questions_is_above_chance_without_a_decode() -> None:
    result = measure_choices(packaged_transitions()[:300], encoder=default_encoder())
    assert result.above_chance
    assert result.accuracy.interval is not None
    assert result.chance == 0.25
    assert max(result.controls.values()) < (result.accuracy.value or 0.0)
    assert (result.decodes, result.decodes_saved) == (0, 300)
    assert worldprediction().percent["VL-JEPA SFT, 1.6B"] == 65.7


def test_answers_that_nothing_tells_are_not_above_chance() -> None:
    """The control of the interval: with shuffled answers it holds chance."""
    random = np.random.default_rng(0)
    shuffled = [
        replace(question, answer=int(random.integers(4)))
        for question in packaged_transitions()[:300]
    ]
    assert not measure_choices(shuffled, encoder=default_encoder()).above_chance


def test_a_predictor_fitted_on_other_questions_learns_a_rotation() -> None:
    """States differ by one direction; the action is the next direction, so a map is needed."""

    def question(n: int) -> Transition:
        k = n % 4
        before, after = ["0000"] * 2
        after = "".join("1" if i == k else "0" for i in range(4))
        actions = tuple(
            "".join("1" if i == (j + 1) % 4 else "0" for i in range(4)) for j in range(4)
        )
        return Transition(
            id=str(n),
            before=before,
            after=after,
            actions=actions,
            answer=k,
            source="s",
            cluster=str(n),
        )

    questions = [question(n) for n in range(40)]
    result = measure_choices(questions, encoder=DirectionEncoder(), train=questions[:20])
    assert result.accuracy.value == 1.0
    assert result.accuracy.interval is not None
    assert (result.accuracy.interval[0] or 0) < 1.0
    assert result.controls["untrained"] == 0.0
    assert result.fitted_on == "20 other questions"


def test_clusters_are_never_split_and_too_few_are_refused() -> None:
    one = [replace(q, cluster="same") for q in packaged_transitions()[:20]]
    with pytest.raises(InputError, match="too few") as caught:
        measure_choices(one, encoder=default_encoder())
    assert "--train" in (caught.value.hint or "")


def test_the_public_layout_in_words(tmp_path: Path) -> None:
    path = annotations(tmp_path / "WorldPrediction-WM.json")
    captions = [
        {
            "segment_uid": f"v{n}#0",
            "before": f"a table {n}",
            "after": f"a table {n} {LABELS[n % 4]}",
        }
        for n in range(10)
    ]
    questions = read_transitions(path, captions=write_jsonl(tmp_path / "c.jsonl", captions))
    assert [q.answer for q in questions] == [n % 4 for n in range(10)]
    assert questions[0].actions == LABELS  # labels stand in for captions of actions
    assert {q.source for q in questions} == {"COIN"}
    assert measure_choices(questions, encoder=default_encoder()).questions == 10


def test_the_public_layout_needs_something_to_show(tmp_path: Path) -> None:
    path = annotations(tmp_path / "WorldPrediction-WM.json")
    with pytest.raises(InputError, match="no way") as caught:
        read_transitions(path)
    assert "--captions" in (caught.value.hint or "")
    few = write_jsonl(tmp_path / "c.jsonl", [{"segment_uid": "v0#0", "before": "a", "after": "b"}])
    with pytest.raises(InputError, match="no caption"):
        read_transitions(path, captions=few)


def test_the_public_layout_in_videos(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    folder = tmp_path / "COIN"
    folder.mkdir()
    for name in [*(f"v{n}" for n in range(10)), *(f"c{k}" for k in range(4))]:
        codec = cv2.VideoWriter_fourcc(*"MJPG")
        writer = cv2.VideoWriter(str(folder / f"{name}.avi"), codec, 10, (32, 32))
        for frame in range(11):
            colour = int(name[1:]) * 20 + (200 if frame >= 10 else 0)
            writer.write(np.full((32, 32, 3), min(colour, 255), np.uint8))
        writer.release()
    path = annotations(tmp_path / "WorldPrediction-WM.json")
    questions = read_transitions(path, videos=tmp_path)
    first = questions[0]
    assert isinstance(first.before, Clip)
    assert (first.before.start_s, first.before.end_s) == (0.0, 0.0)
    assert first.actions[1] == Clip(video=str(folder / "c1.avi"), start_s=0.0, end_s=1.0)
    assert Clip(video="v", start_s=2.0, end_s=4.0).times_s == (2.25, 2.75, 3.25, 3.75)
    embedded = embed_transitions(questions, encoder=ClipEncoder(ColourEncoder()))
    assert embedded.actions.shape == (10, 4, 3)
    assert np.isfinite(embedded.actions).all()
    with pytest.raises(InputError, match="no video"):
        ClipEncoder(ColourEncoder()).embed([replace(first.before, video="nowhere.avi")])


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"id": "a", "before": "x", "after": "y", "actions": ["p", "q"], "answer": 2}, "answer"),
        ({"id": "a", "before": "x", "after": "y", "actions": ["p"], "answer": 0}, "actions"),
        ({"id": "a", "before": "x", "actions": ["p", "q"], "answer": 0}, "after"),
    ],
)
def test_half_a_question_is_refused(tmp_path: Path, row: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        read_transitions(write_jsonl(tmp_path / "q.jsonl", [row]))
