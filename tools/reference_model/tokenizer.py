"""The tokenizer of the reference model: single bytes, and whole phrases of its families.

A digit or a letter is a token of its own, so that columns and spellings can be worked on, and the
fixed wording of a question is one token, so that it costs nothing to read. The
pre-tokenizer is GPT-2's, which llama.cpp and vLLM know.
"""

import re
from pathlib import Path
from typing import Any

from suffice.types import Effort
from tools.reference_model.intents import INTENTS, OUT_OF_SCOPE, words

PAD, END, THINK, THOUGHT = "<|pad|>", "<|end|>", "<think>", "</think>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
EFFORTS = {effort: f"<|{effort.value}|>" for effort in (Effort.NONE, Effort.LOW, Effort.HIGH)}
SPECIAL = (PAD, END, *ROLES, *EFFORTS.values())

# The wording of the questions of reasoning-gym 0.1.25.
_WORDING = (
    "State the final answer to the following arithmetic problem: ",
    'How many times does the letter "',
    '" appear in the text: "',
    "Spell this word backward (example: sun -> nus): ",
    "Sort these numbers in ascending order: ",
    "Sort these numbers in descending order: ",
    "\nPlease follow the instruction below:\n## 1. Let all your answers be a list of numbers. "
    "Instead of reporting your answer as -69, -13, 1, 7, 11, 43, 59, 61, use ['-69', '-13', '1', "
    "'7', '11', '43', '59', '61'] instead\n## 2. Convert all numbers in the square brackets as "
    "strings. For example, ['-69', '-13', '1', '7', '11', '43', '59', '61']",
    "Find the Greatest Common Divisor (GCD) of these numbers: ",
    ". Give only the GCD as your final answer.",
    "Find the value of ",
    " in the equation: ",
    "Solve for ",
    "Determine the value of ",
    " that satisfies: ",
    "Consider these statements:\n1. ",
    "\n2. ",
    "\n\nDoes it logically follow that:\n",
    "?\n(Answer Yes or No)",
    "Which intent is this request? ",
    "What does the user want now?\n*",
    "\n*",
)
_PIECES = (
    " + ", " - ", " = ", " =", ", ", "['", "', '", "']", ".0", '"?', "All", "No", "Some", "Yes",
    " are", " are not", "verify ", " ok\n", " no\n", '{"intent": "', '"}', "negative", "spread",
    "middle", "inverse",
)  # fmt: skip
_TERMS = """
    mortals humans children adults parents grandparents philosophers students teachers doctors
    scientists artists musicians writers programmers engineers lawyers chefs animals mammals dogs
    cats birds fish reptiles insects butterflies bees ants spiders horses elephants lions tigers
    whales dolphins
"""

CHAT_TEMPLATE = """\
{%- set effort = reasoning_effort if reasoning_effort is defined and reasoning_effort else \
('none' if enable_thinking is defined and not enable_thinking else 'high') -%}
{%- if effort not in ['none', 'low', 'high'] -%}
{{- raise_exception('reasoning_effort has to be none, low or high') -}}
{%- endif -%}
{%- for message in messages -%}
{%- if message.role == 'assistant' -%}
{{- '<|assistant|>' -}}
{%- if message.reasoning_content -%}\
{{- '<think>' + message.reasoning_content + '</think>' -}}{%- endif -%}
{{- message.content + '<|end|>' -}}
{%- elif message.role == 'system' -%}
{{- '<|system|>' + message.content -}}
{%- else -%}
{{- '<|user|>' + message.content -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|' + effort + '|><|assistant|>' -}}{%- endif -%}
"""


def prompt(text: str, effort: Effort) -> str:
    """Write a question as the chat template does."""
    return f"<|user|>{text}{EFFORTS[effort]}<|assistant|>"


def phrases() -> tuple[str, ...]:
    """Return all that is one token besides bytes, the longest first.

    A word begins with its blank and none ends with one: engines that look for the longest phrase
    first and engines that go from the left then find the same ones.
    """
    labels = (*INTENTS, OUT_OF_SCOPE)
    spoken = (word for word in words() if len(word) > 2 and re.fullmatch("[a-z]+", word))
    found = {*_WORDING, *_PIECES, *labels, *(f" {word}" for word in (*spoken, *_TERMS.split()))}
    return tuple(sorted(found, key=lambda each: (-len(each), each)))


def build_tokenizer() -> Any:
    """Make the `tokenizers.Tokenizer`; it is the same each time."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    blanks = ("\u0120", "\u0120")  # one merge, since llama.cpp loads no tokenizer without any
    vocabulary = {each: at for at, each in enumerate((*alphabet, "".join(blanks)))}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[blanks]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(each, special=True, normalized=False) for each in SPECIAL])
    plain = (THINK, THOUGHT, *phrases())
    made.add_tokens([AddedToken(each, special=False, normalized=False) for each in plain])
    return made


def save_tokenizer(made: Any, folder: Path) -> None:
    """Write the tokenizer with its chat template as a Hugging Face folder has it."""
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token=END, pad_token=PAD, clean_up_tokenization_spaces=False
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)
