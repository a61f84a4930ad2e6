"""AA-LCR and LiveCodeBench as tasks of Inspect, on the user's own copy of the data.

    inspect eval suffice/aa_lcr -T data=FOLDER --model openai-api/local/MODEL
    inspect eval suffice/livecodebench -T data=test6.jsonl --model openai-api/local/MODEL

`suffice economy logs/` compares the logs. Prompts and grading are those of the benchmarks: the card
of ArtificialAnalysis/AA-LCR (Apache-2.0), and `lcb_runner` of LiveCodeBench (MIT). Only this module
and the reader of logs import `inspect_ai`.
"""

import inspect
import re

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import get_model
from inspect_ai.scorer import CORRECT, INCORRECT, Score, Scorer, Target, accuracy, scorer, stderr
from inspect_ai.solver import TaskState, generate, system_message
from inspect_ai.util import sandbox

from suffice.bench import code_runner
from suffice.bench.outside_tasks import (
    CODE_INSTRUCTION,
    CodeProblem,
    extract_code,
    grading_prompt,
    read_code_problems,
    read_document_questions,
)

_TEST_S = 6  # seconds a test may take, as lcb_runner allows


@task
def aa_lcr(data: str, grader: str | None = None) -> Task:
    """Ask 100 questions over about 100,000 tokens of documents each.

    `data` is the folder of the dataset (`AA-LCR_Dataset.csv`, `extracted_text/`). `grader` names
    the model that compares answers; Artificial Analysis takes Qwen3 235B A22B 2507.
    """
    samples = [
        Sample(
            id=question.id,
            input=question.prompt,
            target=question.answer,
            metadata={"question": question.question, "cluster": question.document_set},
        )
        for question in read_document_questions(data)
    ]
    return Task(
        dataset=MemoryDataset(samples, name="aa_lcr"),
        solver=generate(),
        scorer=equality(grader),
    )


@task
def livecodebench(data: str, sandbox: str = "docker") -> Task:
    """Ask for programs that pass all tests of a problem, public and private.

    `data` is a file of `livecodebench/code_generation_lite`, such as `test6.jsonl`. What a model
    writes runs in the sandbox; `local` runs it on this machine, for models that you trust.
    """
    problems = {problem.question_id: problem for problem in read_code_problems(data)}
    samples = [
        Sample(id=name, input=problem.prompt, metadata={"difficulty": problem.difficulty})
        for name, problem in problems.items()
    ]
    return Task(
        dataset=MemoryDataset(samples, name="livecodebench"),
        solver=[system_message(CODE_INSTRUCTION), generate()],
        scorer=tests(problems),
        sandbox=sandbox,
    )


@scorer(metrics=[accuracy(), stderr()])
def equality(grader: str | None) -> Scorer:
    """Let a model compare an answer with the official one."""

    async def score(state: TaskState, target: Target) -> Score:
        answer = state.output.completion
        prompt = grading_prompt(state.metadata["question"], official=target.text, candidate=answer)
        verdict = (await get_model(grader, role="grader").generate(prompt)).completion
        word = re.search(r"\b(IN)?CORRECT\b", verdict.upper())
        if word is None:
            return Score(value=float("nan"), answer=answer, explanation=f"no verdict: {verdict}")
        right = word.group() == "CORRECT"
        return Score(value=CORRECT if right else INCORRECT, answer=answer, explanation=verdict)

    return score


@scorer(metrics=[accuracy(), stderr()])
def tests(problems: dict[str, CodeProblem]) -> Scorer:
    """Run a program on all tests of its problem; it is right if it passes all."""

    async def score(state: TaskState, target: Target) -> Score:
        del target  # the tests are the target
        problem = problems[str(state.sample_id)]
        code = extract_code(state.output.completion)
        if not code:
            return Score(value=INCORRECT, answer="", explanation="no code block")
        await sandbox().write_file("runner.py", inspect.getsource(code_runner))
        await sandbox().write_file("job.json", problem.job(code, test_s=_TEST_S))
        limit_s = _TEST_S * len(problem.tests) + 10
        try:
            ended = await sandbox().exec(["python3", "runner.py", "job.json"], timeout=limit_s)
        except TimeoutError:
            return Score(value=INCORRECT, answer=code, explanation="the tests took too long")
        passed = ended.success and ended.stdout.strip().endswith("all passed")
        why = (ended.stdout.strip() or ended.stderr.strip())[-500:]
        return Score(value=CORRECT if passed else INCORRECT, answer=code, explanation=why)

    return score
