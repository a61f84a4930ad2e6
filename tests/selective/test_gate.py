"""A gate from labelled streams: certified by streams, written, and read back."""

from pathlib import Path

import numpy as np
import pytest
from latent_toys import stream
from msgspec.structs import replace

from suffice.cli.latent import describe_gate
from suffice.errors import CertificateError, InputError
from suffice.selective.change import Turn
from suffice.selective.decoder import GateSettings
from suffice.selective.gate import (
    GATE,
    CertifiedGate,
    fit_gate,
    load_gate,
    read_streams,
    save_gate,
    watch_gate,
)
from suffice.units import show_share

SETTINGS = GateSettings(threshold=0.1, refresh_events=40)


@pytest.fixture(scope="module")
def gate() -> CertifiedGate:
    streams = [stream(seed, segments=8) for seed in range(160)]
    return fit_gate(streams, alpha=0.15, delta=0.1, settings=SETTINGS)


def test_a_gate_keeps_its_promise_on_other_streams_and_saves_decodes(gate: CertifiedGate) -> None:
    assert gate.calibration.certified
    assert gate.file.streams == {"fit": 80, "certify": 64, "report": 16}
    assert gate.file.held_per_stream >= 0.85
    assert gate.file.decodes_per_event < 0.8
    assert gate.file.settings.refresh_events == 40


def test_the_promise_is_about_streams_and_says_so_beside_the_share_of_events() -> None:
    short = [stream(seed, segments=1) for seed in range(140)]  # their one answer never goes stale
    long = [stream(seed, segments=60) for seed in range(140, 160)]
    gate = fit_gate([*short, *long], alpha=0.2, delta=0.1, settings=SETTINGS)
    assert gate.calibration.certified
    assert gate.file.held_per_event < gate.file.held_per_stream
    told = describe_gate(gate)
    assert "on average over streams" in told
    assert f"{show_share(1 - gate.file.held_per_stream)} wrong on average over streams" in told
    assert f"{show_share(1 - gate.file.held_per_event)} over all their events" in told


def test_copies_of_a_stream_count_once_and_go_into_one_split() -> None:
    copies = [stream(seed, segments=8) for seed in range(60) for _ in range(4)]
    gate = fit_gate(copies, alpha=0.3, delta=0.1, settings=SETTINGS)
    assert sum(gate.file.streams.values()) == 240
    assert gate.calibration.n == gate.file.streams["certify"] // 4


def test_a_saved_gate_is_loaded(gate: CertifiedGate, tmp_path: Path) -> None:
    save_gate(tmp_path / "gate", gate)
    model, file = load_gate(tmp_path / "gate")
    assert file == gate.file
    turn = [Turn(text="book it please")]
    np.testing.assert_array_equal(
        model.scores(turn, ["taxi:order"]), gate.model.scores(turn, ["taxi:order"])
    )
    (tmp_path / "gate" / GATE).write_text("[]")
    with pytest.raises(InputError, match="damaged"):
        load_gate(tmp_path / "gate")
    with pytest.raises(InputError, match="holds no gate"):
        load_gate(tmp_path)


def test_lines_are_gathered_by_stream_in_their_order() -> None:
    lines = [
        b'{"stream": "a", "text": "1", "answer": "x"}',
        b"",
        b'{"stream": "b", "text": "2", "answer": "y", "context": "c"}',
        b'{"stream": "a", "text": "3", "answer": "z"}',
    ]
    assert read_streams(lines) == [
        [Turn(text="1", answer="x"), Turn(text="3", answer="z")],
        [Turn(text="2", context="c", answer="y")],
    ]


@pytest.mark.parametrize("bad", [b"{", b'{"stream": "a", "text": "1"}', b"\xff", b'{"words": 1}'])
def test_a_bad_line_is_named(bad: bytes) -> None:
    with pytest.raises(InputError, match="line 2 is not a labelled event"):
        read_streams([b'{"stream": "a", "text": "1", "answer": "x"}', bad])


def test_no_event_and_too_few_streams_are_refused() -> None:
    with pytest.raises(InputError, match="no event"):
        read_streams([b""])
    with pytest.raises(InputError, match="too few"):
        fit_gate([stream(0)], alpha=0.1, delta=0.1, settings=SETTINGS)


def test_audits_end_a_gate_whose_streams_have_changed(gate: CertifiedGate, tmp_path: Path) -> None:
    save_gate(tmp_path, gate)
    good = watch_gate(tmp_path, [stream(seed, segments=8) for seed in range(500, 560)])
    assert (good.alarm, good.monitor.audits) == (False, 60)
    load_gate(tmp_path)
    # the same words now mean something new at every turn
    odd = [
        [Turn(text=t.text, context=t.context, answer=f"{t.answer} {i}") for i, t in enumerate(s)]
        for s in (stream(seed, segments=8) for seed in range(600, 660))
    ]
    assert watch_gate(tmp_path, odd).alarm
    with pytest.raises(CertificateError, match="alarm"):
        load_gate(tmp_path)
    save_gate(
        tmp_path,
        CertifiedGate(  # another gate in the folder starts anew
            model=gate.model,
            file=replace(gate.file, alpha=0.2),
            calibration=gate.calibration,
        ),
    )
    load_gate(tmp_path)
