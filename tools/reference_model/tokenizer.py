"""The tokenizer of the reference model: single bytes, and whole phrases of its families.

A digit or a letter is one token, so that the model can work on columns and spellings. The fixed
wording of a question is one token, so that reading it is cheap. The pre-tokenizer is that of GPT-2,
which llama.cpp and vLLM support.
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
    "Solve the following multiplication: ",
    ". Give only the result as your final answer.",
    "Multiply the complex numbers: (",
    ") \u00d7 (",
    "Your task is to count how many legs there are in total when given a list of animals.\n\n"
    "Now, how many legs are there in total if you have ",
    "A cube has:\n- a ",
    *(f" {side} side\n- a " for side in ("top", "right", "front", "left", "back")),
    " bottom side\n\n",
    *(
        turn.format(side)
        for side in ("right", "front", "left", "back", "bottom")
        for turn in (
            "The cube is rotated so that the side which was before at the {} is now at the top."
            "\n\n",
            "Then the cube is rotated to bring the {} side to the top.\n\n",
            "After that the cube is turned to make the {} face the top.\n\n",
            "Now the cube is rotated to place its {} side at the top.\n\n",
            "Next, the {} side is rotated to become the top face.\n\n",
        )
    ),
    *(
        f"What is now the color of the {side} side of the cube?\n"
        "Provide only the color as your final answer."
        for side in ("top", "right", "front", "left", "back", "bottom")
    ),
)
_FRAGMENTS = (
    " + ", " - ", " = ", " =", ", ", "['", "', '", "']", ".0", '"?', "All", "No", "Some", "Yes",
    " are", " are not", "verify ", " ok\n", " no\n", '{"intent": "', '"}', "negative", "spread",
    "middle", "inverse",
)  # fmt: skip
_TERMS = """
    mortals humans children adults parents grandparents philosophers students teachers doctors
    scientists artists musicians writers programmers engineers lawyers chefs animals mammals dogs
    cats birds fish reptiles insects butterflies bees ants spiders horses elephants lions tigers
    whales dolphins
    snakes jellyfishs flatworms leechs chickens ducks cows giraffes deers sheeps starfishs
    butterflys beetles wasps grasshoppers crickets cockroachs fireflys scorpions crabs lobsters
    shrimps woodlouses
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
    """Return the prompt that the chat template makes of a question."""
    return f"<|user|>{text}{EFFORTS[effort]}<|assistant|>"


def phrases() -> tuple[str, ...]:
    """Return every token that is longer than a byte, the longest first.

    A word begins with its blank and no word ends with one, so that engines that match the longest
    phrase first and engines that match from the left agree on all questions and solutions. On other
    texts they may not: ", " and " tell" share a blank in ", tell", and the longer one takes it.
    """
    labels = (*INTENTS, OUT_OF_SCOPE)
    spoken_words = (word for word in words() if len(word) > 2 and re.fullmatch("[a-z]+", word))
    texts = {
        *_WORDING,
        *_FRAGMENTS,
        *labels,
        *(f" {word}" for word in (*spoken_words, *_TERMS.split())),
    }
    return tuple(sorted(texts, key=lambda text: (-len(text), text)))


def build_tokenizer() -> Any:
    """Build the `tokenizers.Tokenizer`, the same each time."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    blanks = ("\u0120", "\u0120")  # one merge, since llama.cpp loads no tokenizer without any
    vocabulary = {text: at for at, text in enumerate((*alphabet, "".join(blanks)))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[blanks]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(text, special=True, normalized=False) for text in SPECIAL]
    )
    texts = (THINK, THOUGHT, *phrases())
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in texts])
    return tokenizer


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write the tokenizer and its chat template into a Hugging Face folder."""
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, clean_up_tokenization_spaces=False
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)
