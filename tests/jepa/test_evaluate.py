import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from tiny_llama import PAIRS, cut, llama, tokenizer  # noqa: E402

from suffice.jepa.evaluate import generate, score  # noqa: E402


def test_padding_and_batching_change_no_answer() -> None:
    model, rows = llama().eval(), cut(*PAIRS)
    together = generate(model, rows, max_new_tokens=12)
    alone = [generate(model, [row], max_new_tokens=12)[0] for row in rows]
    assert together == alone
    assert len({tuple(answer) for answer in together}) == len(rows)


def test_a_score_counts_answers_and_their_tokens() -> None:
    model, words = llama().eval(), tokenizer()
    rows = cut(*PAIRS)
    (answer,) = generate(model, rows[:1], max_new_tokens=6)
    said = words.decode(answer, skip_special_tokens=True).strip()
    right = [type(row)(**{**as_dict(row), "text": said}) for row in rows[:1]]
    scored = score(model, [*right, *rows[1:]], tokenizer=words, max_new_tokens=6)
    assert (scored.examples, scored.exact) == (3, 1)
    assert scored.accuracy == pytest.approx(1 / 3)
    assert scored.exact_per_1000_tokens == pytest.approx(1000 / scored.generated_tokens)


def as_dict(row: object) -> dict[str, object]:
    return {name: getattr(row, name) for name in row.__struct_fields__}
