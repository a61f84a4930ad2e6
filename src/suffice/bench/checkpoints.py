"""A callback for the Trainer of `transformers` that logs quality per generated token.

Only this module and the training of `suffice.jepa` import `transformers`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from transformers import TrainerCallback
from transformers.integrations import is_deepspeed_zero3_enabled

from suffice.errors import InputError
from suffice.trials.frontier import frontier
from suffice.trials.history import history, log_checkpoint

Mark = Callable[[str, str], float]


class Questions(Struct, frozen=True, kw_only=True):
    """Prompts with their targets, and how answers are marked.

    `mark` takes the target and the answer and returns a quality in [0, 1]. Answers are greedy, cut
    after `max_new_tokens`.
    """

    pairs: Sequence[tuple[str, str]]
    mark: Mark
    max_new_tokens: int = 256


class FrontierCallback(TrainerCallback):
    """Lets each evaluated model answer questions, and appends the marks to a history.

    The figures go to the metrics that `evaluate` returns, and to the loggers of the Trainer by
    `log`, its method of that name: the Trainer has logged its own metrics when it calls back. A
    step that is evaluated several times, as with several datasets, is answered once. The first
    process answers, so it needs the whole weights: InputError where they are sharded.
    """

    def __init__(
        self,
        path: str | Path,
        questions: Questions,
        *,
        tokenizer: Any,
        run: str | None = None,
        log: Callable[[dict[str, float]], None] | None = None,
    ) -> None:
        self._path, self._questions = path, questions
        self._tokenizer, self._run, self._log = tokenizer, run, log
        self._step, self._figures = -1, dict[str, float]()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Refuse weights that no process has as a whole, before a step is trained."""
        del state, control
        if getattr(args, "fsdp", None) or is_deepspeed_zero3_enabled():
            raise InputError(
                "the weights are sharded over processes, so no process can answer alone",
                hint="save checkpoints, and give their answers to log_checkpoint",
            )

    def on_evaluate(
        self, args: Any, state: Any, control: Any, model: Any = None, metrics: Any = None, **_: Any
    ) -> None:
        """Answer the questions with the model of this step."""
        del args, control
        if not state.is_world_process_zero:
            return
        if state.global_step != self._step:
            self._step, self._figures = state.global_step, self._measure(model, state.global_step)
            if self._log is not None:
                self._log(self._figures)
            else:
                state.log_history.append({"step": self._step, **self._figures})
        if metrics is not None:
            metrics.update(self._figures)

    def _measure(self, model: Any, step: int) -> dict[str, float]:
        """Answer, log the checkpoint, and return the figures that are known."""
        training = model.training
        model.eval()
        answers = [self._answer(model, prompt) for prompt, _ in self._questions.pairs]
        model.train(training)
        trials = log_checkpoint(
            self._path,
            step=step,
            qualities=[
                self._questions.mark(target, text)
                for (_, target), (text, _) in zip(self._questions.pairs, answers, strict=True)
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
        return {
            f"eval_{name}": figure.value
            for name, figure in figures.items()
            if figure is not None and figure.value is not None
        }

    def _answer(self, model: Any, prompt: str) -> tuple[str, int]:
        inputs = self._tokenizer(prompt, return_tensors="pt").to(model.device)
        output = model.generate(
            **inputs, max_new_tokens=self._questions.max_new_tokens, do_sample=False, use_cache=True
        )
        tokens = output[0, inputs["input_ids"].shape[1] :]
        return self._tokenizer.decode(tokens, skip_special_tokens=True), len(tokens)
