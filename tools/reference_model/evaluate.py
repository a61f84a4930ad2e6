"""Accuracy of a model in training on held-out questions, on the engine that will serve it."""

import asyncio
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from msgspec.structs import replace

from suffice.config import parse_config
from suffice.engines.embedded import EmbeddedEngine
from suffice.errors import EngineError
from suffice.ladder import example_text
from suffice.types import Request, Rung
from tools.reference_model.export import to_gguf
from tools.reference_model.questions import ReasoningQuestion, Spec, held_out

Accuracy = dict[str, dict[str, float]]


def evaluate(folder: Path, spec: Spec, *, count: int) -> Accuracy:
    """Return the accuracy by family and effort on the first held-out questions of each family.

    `folder` is a Hugging Face folder. Raises MissingExtra without the converter.
    """
    questions = [q for family in held_out(spec).values() for q in islice(family, count)]
    with tempfile.TemporaryDirectory() as scratch:
        gguf = Path(scratch) / "model.gguf"
        to_gguf(folder, gguf)
        marks = asyncio.run(_marks(gguf, questions))
    return {
        family: {
            rung: sum(
                mark
                for mark, question in zip(rung_marks, questions, strict=True)
                if question.family == family
            )
            / count
            for rung, rung_marks in marks.items()
        }
        for family in spec.families
    }


async def _marks(gguf: Path, questions: Sequence[ReasoningQuestion]) -> dict[str, list[bool]]:
    """Ask every question at every effort, as many at once as the engine serves."""
    config = parse_config(example_text("embedded"))
    engine_config = replace(config.engine["here"], model_path=str(gguf))
    slots = asyncio.Semaphore(engine_config.parallel)
    async with EmbeddedEngine(engine_config) as engine:

        async def right(question: ReasoningQuestion, rung: Rung) -> bool:
            message = {"role": "user", "content": question.text}
            request = Request(request_id=question.hash, messages=(message,))
            async with slots:
                try:
                    completion = await engine.complete(request, rung)
                except EngineError:
                    return False
            return completion.text.strip() == question.answer

        return {
            rung.name: list(
                await asyncio.gather(*(right(question, rung) for question in questions))
            )
            for rung in config.ladder
        }
