"""The stream command's work: lines in, answers out, and a video with its decodes."""

from pathlib import Path

import numpy as np
import pytest

from suffice.encoders.onnx import EFFICIENTNET, encoder_folder
from suffice.errors import InputError
from suffice.selective.change import COLUMNS, ChangeModel, Turn
from suffice.selective.decoder import GateSettings, Reason
from suffice.selective.events import answer_text, answer_video

SETTINGS = GateSettings(threshold=0.3, refresh_events=3)
HOLDS = ChangeModel(weights=np.zeros((3, COLUMNS), np.float32), intercept=-5.0)


async def upper(turn: Turn) -> str:
    return turn.text.upper()


async def test_lines_are_answered_and_empty_ones_passed_over() -> None:
    lines = [
        '{"text": "a"}',
        "",
        b'{"text": "b", "context": "c"}',
        '{"text": "d"}',
        '{"text": "e"}',
    ]
    shown = [s async for s in answer_text(lines, model=HOLDS, decode=upper, settings=SETTINGS)]
    assert [s.step.answer for s in shown] == ["A", "A", "A", "E"]
    assert [s.step.reason for s in shown] == [Reason.FIRST, None, None, Reason.REFRESH]
    assert [s.at_s for s in shown] == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("bad", ["{", '{"text": 1}', '{"words": "a"}', b"\xff\xfe", "[]"])
async def test_a_bad_line_is_named(bad: str | bytes) -> None:
    lines = ['{"text": "a"}', bad]
    with pytest.raises(InputError, match="line 2"):
        _ = [s async for s in answer_text(lines, model=HOLDS, decode=upper, settings=SETTINGS)]


async def test_times_that_go_backwards_stop_the_stream() -> None:
    lines = ['{"text": "a", "at_s": 5}', '{"text": "b", "at_s": 4}']
    with pytest.raises(InputError, match="backwards"):
        _ = [s async for s in answer_text(lines, model=HOLDS, decode=upper, settings=SETTINGS)]


async def test_a_video_is_decoded_where_its_scene_changes(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    pytest.importorskip("onnxruntime")
    if not (encoder_folder() / EFFICIENTNET).is_file():
        pytest.skip("python -m tools.encoders efficientnet was not run")
    out = cv2.VideoWriter(
        str(tmp_path / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5.0, (96, 96)
    )
    rng = np.random.default_rng(0)
    for picture in (rng.integers(0, 255, (96, 96, 3)), np.zeros((96, 96, 3))):
        for _ in range(6):
            out.write(picture.astype(np.uint8))
    out.release()
    settings = GateSettings(threshold=0.3)
    shown = [s async for s in answer_video(tmp_path / "clip.avi", settings=settings)]
    assert [s.at_s for s in shown if s.step.reason] == [0.0, 1.2]
