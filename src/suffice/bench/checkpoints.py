"""A callback for the Trainer of `transformers` that logs quality per generated token.

Only this module and the training of `suffice.jepa` import `transformers`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from suffice.trials.frontier import frontier
from suffice.trials.history import history, log_checkpoint
from suffice.trials.resample import Estimate

Mark = Callable[[str, str], float]


class FrontierCallback(TrainerCallback):
    """Lets each evaluated model answer questions, and appends the marks to a history.

    `questions` are prompts with their targets; `mark` takes the target and the answer and returns a
    quality in [0, 1]. Answers are greedy, cut after `max_new_tokens`. The figures also go to the
    metrics of the evaluation, so that every logger of the Trainer shows them.
    """

    def __init__(
        self,
        path: str | Path,
        questions: Sequence[tuple[str, str]],
        mark: Mark,
        *,
        tokenizer: Any,
        max_new_tokens: int = 256,
        run: str | None = None,
    ) -> None:
        self._path, self._questions, self._mark = path, questions, mark
        self._tokenizer, self._max_new_tokens, self._run = tokenizer, max_new_tokens, run

    def on_evaluate(
        self, args: Any, state: Any, control: Any, model: Any = None, metrics: Any = None, **_: Any
    ) -> None:
        """Answer the questions with the model of this step."""
        del args, control
        if not state.is_world_process_zero:
            return
        training = model.training
        model.eval()
        answers = [self._answer(model, prompt) for prompt, _ in self._questions]
        model.train(training)
        trials = log_checkpoint(
            self._path,
            step=state.global_step,
            qualities=[
                self._mark(target, text)
                for (_, target), (text, _) in zip(self._questions, answers, strict=True)
            ],
            output_tokens=[tokens for _, tokens in answers],
            run=self._run,
        )
        (checkpoint,) = history(frontier(trials)).checkpoints
        figures = {
            "accuracy": checkpoint.accuracy,
            "accuracy_per_1000_tokens": checkpoint.accuracy_per_1000_tokens,
            "tokens_per_right_answer": checkpoint.tokens_per_correct,
        }
        values = {f"eval_{name}": _value(figure) for name, figure in figures.items()}
        if metrics is not None:
            metrics.update(values)
        state.log_history.append({"step": state.global_step, **values})

    def _answer(self, model: Any, prompt: str) -> tuple[str, int]:
        inputs = self._tokenizer(prompt, return_tensors="pt").to(model.device)
        output = model.generate(
            **inputs, max_new_tokens=self._max_new_tokens, do_sample=False, use_cache=True
        )
        tokens = output[0, inputs["input_ids"].shape[1] :]
        return self._tokenizer.decode(tokens, skip_special_tokens=True), len(tokens)


def _value(figure: Estimate | None) -> float | None:
    return None if figure is None else figure.value
