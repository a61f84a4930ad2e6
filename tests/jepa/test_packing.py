import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from suffice.errors import InputError
from suffice.jepa.packing import PADDING, PackingLayout, lay_out, pack, plan_rows
from suffice.jepa.settings import Labels
from suffice.jepa.views import TokenizedChat

END, PAD = 9, 0
ONE = TokenizedChat(prompt=(1, 2, 3), answer=(4, 5), end=END, rest=(6,), text="45")
TWO = TokenizedChat(prompt=(1, 7), answer=(8,), end=END, rest=(6,), text="8")


def test_a_plain_example_is_prompt_answer_and_end() -> None:
    piece = lay_out(ONE, PackingLayout())
    assert piece.ids.tolist() == [1, 2, 3, 4, 5, END]
    assert piece.positions.tolist() == [0, 1, 2, 3, 4, 5]
    assert piece.targets.tolist() == [4, 5, END]
    assert piece.sources.tolist() == [2, 3, 4]
    assert not len(piece.actual)


def test_predictors_go_on_from_the_prompt_and_the_view_starts_anew() -> None:
    piece = lay_out(ONE, PackingLayout(predictors=2, pad_token=PAD))
    assert piece.ids.tolist() == [1, 2, 3, 4, 5, END, PAD, PAD, 4, 5]
    assert piece.positions.tolist() == [0, 1, 2, 3, 4, 5, 3, 4, 0, 1]
    assert piece.slots.tolist() == [6, 7]
    assert piece.predicted.tolist() == [7]
    assert piece.actual.tolist() == [9]


def test_without_predictor_tokens_the_prompt_predicts() -> None:
    piece = lay_out(ONE, PackingLayout(predictors=0))
    assert piece.predicted.tolist() == [2]
    assert piece.actual.tolist() == [7]


@pytest.mark.parametrize("pad", [PAD, END])
def test_the_end_token_is_trained_even_where_it_is_the_pad_token(pad: int) -> None:
    assert lay_out(ONE, PackingLayout(pad_token=pad)).targets.tolist() == [4, 5, END]


def test_the_references_labels_lose_the_end_token_where_it_is_the_pad_token() -> None:
    reference = PackingLayout(labels=Labels.REFERENCE, pad_token=END)
    assert lay_out(ONE, reference).targets.tolist() == [2, 3, 4, 5, 6]
    apart = PackingLayout(labels=Labels.REFERENCE, pad_token=PAD)
    assert lay_out(ONE, apart).targets.tolist() == [2, 3, 4, 5, END, 6]


@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=40), row_tokens=st.integers(1, 400)
)
def test_rows_hold_every_piece_once_and_stay_narrow(lengths: list[int], row_tokens: int) -> None:
    rows = plan_rows(lengths, row_tokens=row_tokens)
    widths = [sum(lengths[i] for i in row) for row in rows]
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    room = max(row_tokens, *lengths)
    assert max(widths) <= room
    assert max(widths) - min(widths) <= max(lengths), "rows differ by more than one piece"
    fewest = next(n for n in range(1, 41) if max(spread(lengths, n)) <= room)
    assert len(rows) * max(widths) <= 1.05 * fewest * max(spread(lengths, fewest))


def spread(lengths: list[int], rows: int) -> list[int]:
    """Widths when each piece, longest first, joins the narrowest row."""
    widths = [0] * rows
    for length in sorted(lengths, reverse=True):
        widths[widths.index(min(widths))] += length
    return widths


def test_rows_are_chosen_to_hold_little_padding() -> None:
    lengths = [72] * 16
    rows = plan_rows(lengths, row_tokens=256)
    assert sorted(map(len, rows)) == [2] * 8 or sorted(map(len, rows)) == [1] * 16
    assert max(len(row) for row in plan_rows([40] * 9 + [70], row_tokens=256)) > 1


@pytest.mark.torch
def test_a_tube_draws_three_places_of_each_conversation_in_order() -> None:
    import torch

    torch.manual_seed(0)
    layout = PackingLayout(tube=True, row_tokens=10, pad_token=PAD)
    drawn = {0: set(), 1: set()}
    for _ in range(200):
        batch = pack([TWO, ONE], layout)
        segments = batch.segments.flatten()
        for i, triple in enumerate(batch.triples):
            assert (triple.diff() > 0).all(), "s < r < t"
            assert segments[triple].tolist() == [2 * i] * 3
            drawn[i].add(tuple((triple - (segments == 2 * i).nonzero()[0]).tolist()))
    assert len(drawn[0]) == 4, "every triple of 4 tokens"
    assert len(drawn[1]) == 20, "every triple of 6 tokens"


@pytest.mark.torch
def test_a_tube_needs_three_tokens() -> None:
    short = TokenizedChat(prompt=(1,), answer=(), end=5, rest=(), text="")
    with pytest.raises(InputError, match="three tokens"):
        pack([short], PackingLayout(tube=True))


@pytest.mark.torch
def test_a_tube_adds_no_token() -> None:
    plain, tube = (pack([TWO, ONE], PackingLayout(tube=tube)) for tube in (False, True))
    assert plain.ids.equal(tube.ids)
    assert not len(plain.triples)


@pytest.mark.torch
def test_packing_keeps_the_order_of_examples_and_marks_padding() -> None:
    layout = PackingLayout(predictors=1, row_tokens=10, pad_token=PAD)
    batch = pack([TWO, ONE, TWO], layout)
    ids = batch.ids.flatten().numpy()
    assert batch.targets.tolist() == [8, END, 4, 5, END, 8, END]
    assert ids[batch.sources + 1].tolist()[1::2] == [END, 5, 8]
    assert ids[batch.actual].tolist() == [8, 5, 8]
    assert (ids[batch.slots] == PAD).all()
    assert batch.tokens == sum(lay_out(e, layout).tokens for e in (TWO, ONE, TWO))
    segments = batch.segments.numpy()
    assert set(np.unique(segments[segments != PADDING])) == set(range(6))
