"""Change scores for any event, video frames, and the picture of a stream."""

from pathlib import Path

import numpy as np
import pytest
from benchmarks.stream import offline

from suffice.errors import InputError
from suffice.selective.decoder import GateSettings, SelectiveDecoder
from suffice.selective.embedding_change import AnswerChange, EmbeddingChange
from suffice.selective.timeline import TimedStep, draw_timeline


def test_total_variation_of_predicted_answers() -> None:
    scorer = AnswerChange(np.array)
    scorer.decoded((0.8, 0.2, 0.0), "a")
    assert scorer.score((0.8, 0.2, 0.0)) == 0.0
    assert scorer.score((0.3, 0.2, 0.5)) == pytest.approx(0.5)
    assert scorer.score((0.0, 0.0, 1.0)) == pytest.approx(1.0)


def test_cosine_distance_is_scaled_to_a_full_change() -> None:
    scorer = EmbeddingChange(np.array, full=0.5)
    scorer.decoded((1.0, 0.0), "a")
    assert scorer.score((3.0, 0.0)) == 0.0
    assert scorer.score((3.0, 4.0)) == pytest.approx(0.8)
    assert scorer.score((0.0, 1.0)) == 1.0


@pytest.mark.parametrize("event", [(np.nan, 1.0), (1.0, 0.0, 0.0)])
def test_vectors_that_cannot_be_compared_are_errors(event: tuple[float, ...]) -> None:
    scorer = EmbeddingChange(np.array)
    scorer.decoded((1.0, 0.0), "a")
    with pytest.raises(InputError):
        scorer.score(event)


def test_an_answer_set_that_changes_and_non_probabilities_are_errors() -> None:
    scorer = AnswerChange(np.array)
    scorer.decoded((0.5, 0.5), "a")
    for event in ((0.2, 0.3, 0.5), (0.9, 0.9)):
        with pytest.raises(InputError):
            scorer.score(event)


async def test_sensor_windows_are_decoded_when_the_prediction_changes() -> None:
    states = np.repeat([0, 1, 0], 20)

    async def decode(window: np.ndarray) -> str:
        return "high" if window.mean() > 0.5 else "low"

    scorer = AnswerChange(lambda window: np.array([1.0 - window.mean(), window.mean()]))
    decoder = SelectiveDecoder(scorer, decode, settings=GateSettings(threshold=0.4))
    steps = [await decoder.push(np.full(8, float(state))) for state in states]
    assert decoder.decodes == 3
    assert [step.answer for step in steps] == [("low", "high")[state] for state in states]


# -- offline reference --------------------------------------------------------------------------


def scenes() -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = np.repeat(np.eye(4, dtype=np.float32), 10, axis=0)
    return centres + rng.normal(0, 0.02, centres.shape).astype(np.float32)


def test_ward_decodes_in_the_middle_of_each_segment() -> None:
    places = offline.ward_midpoints(scenes(), segments=4, smooth=1)
    assert places.tolist() == [4, 14, 24, 34]
    held = offline.held_nearest(places, events=40)
    assert (held // 10 == np.arange(40) // 10).all()


def test_ward_copes_with_one_event_and_refuses_what_it_cannot_cut() -> None:
    assert offline.ward_midpoints(scenes()[:1], segments=1).tolist() == [0]
    assert offline.ward_midpoints(scenes(), segments=1).tolist() == [19]
    assert len(offline.ward_midpoints(scenes(), segments=40)) == 40
    with pytest.raises(InputError):
        offline.ward_midpoints(scenes(), segments=41)
    with pytest.raises(InputError, match="not finite"):
        offline.ward_midpoints(scenes() * np.nan, segments=2)


def test_the_input_distance_rule_decodes_where_the_scene_changes() -> None:
    assert offline.distance_decodes(scenes(), threshold=0.5).tolist() == [0, 10, 20, 30]


def test_uniform_decodes_and_what_each_event_carries() -> None:
    assert offline.uniform_decodes(10, rate=0.3).tolist() == [0, 3, 6]
    assert offline.uniform_decodes(10, rate=0.3, phase=0.5).tolist() == [0, 1, 5, 8]
    assert offline.uniform_decodes(5, rate=1.0).tolist() == [0, 1, 2, 3, 4]
    places = np.array([0, 3, 6])
    assert offline.held_after(places, events=8).tolist() == [0, 0, 0, 3, 3, 3, 6, 6]


# -- video and picture --------------------------------------------------------------------------


def write_clip(path: Path, colours: list[tuple[int, int, int]]) -> None:
    cv2 = pytest.importorskip("cv2")
    out = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (64, 48))
    for colour in colours:
        out.write(np.full((48, 64, 3), colour, np.uint8))
    out.release()


def test_frames_come_at_the_rate_asked_for(tmp_path: Path) -> None:
    from suffice.selective.video import read_frames

    write_clip(tmp_path / "clip.avi", [(255, 0, 0)] * 20 + [(0, 0, 255)] * 20)
    frames = list(read_frames(tmp_path / "clip.avi", frames_per_s=5.0))
    assert [frame.at_s for frame in frames] == pytest.approx([i / 5 for i in range(20)])
    assert frames[0].image[24, 32, 2] > 200  # blue is last: RGB
    assert frames[-1].image[24, 32, 0] > 200


def test_a_file_that_is_no_video_or_breaks_off_is_an_error(tmp_path: Path) -> None:
    from suffice.selective.video import read_frames

    write_clip(tmp_path / "clip.avi", [(255, 0, 0)] * 60)
    whole = (tmp_path / "clip.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 3])
    (tmp_path / "text.avi").write_bytes(b"this is not a video")
    for name in ("cut.avi", "text.avi", "absent.avi"):
        with pytest.raises(InputError):
            list(read_frames(tmp_path / name))


def test_frames_of_any_size_are_made_square() -> None:
    pytest.importorskip("cv2")
    from suffice.selective.video import square

    for height, width in ((48, 64), (300, 200), (1, 1)):
        assert square(np.zeros((height, width, 3), np.uint8)).shape == (224, 224, 3)
    for shape in ((48, 64), (0, 64, 3), (48, 64, 4)):
        with pytest.raises(InputError):
            square(np.zeros(shape, np.uint8))


async def test_the_timeline_is_drawn_with_its_decodes(tmp_path: Path) -> None:
    async def decode(event: float) -> str:
        return f"scene {event:g}"

    scorer = AnswerChange(lambda event: np.array([1.0 - event, event]))
    decoder = SelectiveDecoder(scorer, decode, settings=GateSettings(threshold=0.4))
    shown = [
        TimedStep(at_s=float(i), step=await decoder.push(event))
        for i, event in enumerate([0.0, 0.0, 1.0, 1.0])
    ]
    draw_timeline(shown, tmp_path / "timeline.svg", title="demo")
    picture = (tmp_path / "timeline.svg").read_text("utf-8")
    assert "2 of 4 events decoded" in picture
    with pytest.raises(InputError):
        draw_timeline(shown, tmp_path / "timeline.gif", title="demo")
