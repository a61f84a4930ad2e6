"""Worked solutions of the harder families: a main step of them is hard to say without its work.

Low writes the results of the main steps alone, high the work as well.
"""

import re
from collections.abc import Callable, Mapping

from tools.reference_model.questions import ReasoningQuestion
from tools.reference_model.scratch import Scratch

# The animals of leg_counting in reasoning-gym 0.1.25, by legs.
_ANIMALS = {
    0: "snake, sea slug, jellyfish, flatworm, leech",
    2: "chicken, bird, human, duck",
    4: "dog, cat, cow, horse, lion, elephant, giraffe, tiger, deer, sheep",
    5: "starfish",
    6: "insect, ant, butterfly, beetle, bee, wasp, grasshopper, cricket, cockroach, "
    "praying mantis, firefly",
    8: "spider, scorpion",
    10: "crab, lobster, shrimp",
    14: "woodlouse",
}
_LEGS = {animal: legs for legs, animals in _ANIMALS.items() for animal in animals.split(", ")}
_SIDES = {"top": "U", "right": "R", "front": "F", "left": "L", "back": "B", "bottom": "D"}
_PLACES = "".join(_SIDES.values())
_TURN = re.compile(r"(?:before at the|bring the|make the|place its|Next, the) (\w+)")
_TURNS_AT_ONCE = 3  # that low states as one step
# Where the sides of a cube go when one of them comes to the top: each to the place before it.
_CYCLES = {"F": ("UFDB",), "B": ("UBDF",), "R": ("URDL",), "L": ("ULDR",), "D": ("UD", "FB")}


def _products(question: ReasoningQuestion, scratch: Scratch) -> None:
    first, second = (int(number) for number in re.findall(r"\d+", question.text))
    scratch.product(first, second)


def _leg_counting(question: ReasoningQuestion, scratch: Scratch) -> None:
    total = 0
    for times, animal in re.findall(r"(\d+) ([a-z ]+)s[,?]", question.text):
        legs = int(times) * _LEGS[animal]
        total += legs
        scratch.write(f"{times}*{_LEGS[animal]}={legs} ", "columns")
        scratch.write(f"{total}\n")


def _color_cube_rotation(question: ReasoningQuestion, scratch: Scratch) -> None:
    """State which side is up, right, in front, left, at the back and down after a turn."""
    colors = {
        _SIDES[side]: color for color, side in re.findall(r"- a (\w+) (\w+) side", question.text)
    }
    asked = _SIDES[re.findall(r"color of the (\w+) side", question.text)[0]]
    state = _PLACES
    for number, side in enumerate(_TURN.findall(question.text), 1):
        state = _turned(state, _SIDES[side])
        kind = "state" if number % _TURNS_AT_ONCE else "work"
        scratch.write(f"{state}\n" if scratch.brief else f"{_SIDES[side]}:{state}\n", kind)
    origin = state[_PLACES.index(asked)]
    scratch.write(f"{asked}:{origin}:{colors[origin]}\n", "state")


def _complex_arithmetic(question: ReasoningQuestion, scratch: Scratch) -> None:
    """State the real and the imaginary part of a product, high with the two products in each."""
    factors = re.findall(r"\(([^()]+)\)", question.text)
    numbers = [complex(factor.replace(" ", "").replace("i", "j")) for factor in factors]
    (a, b), (c, d) = ((round(number.real), round(number.imag)) for number in numbers)
    for (left, right), (down, up), sign in (((a, c), (b, d), -1), ((a, d), (b, c), 1)):
        first, second = left * right, down * up
        if scratch.brief:
            scratch.write(f"{first + sign * second}\n")
            continue
        scratch.write(f"{left}*{right}={first} {down}*{up}={second} ")
        scratch.combine(first, sign * second)


def _turned(state: str, side: str) -> str:
    """Turn a cube so that the side at a place comes to the top."""
    sides = dict(zip(_PLACES, state, strict=True))
    moved = {
        place: sides[cycle[(at + 1) % len(cycle)]]
        for cycle in _CYCLES[side]
        for at, place in enumerate(cycle)
    }
    return "".join(moved.get(place, sides[place]) for place in _PLACES)


HARDER: Mapping[str, Callable[[ReasoningQuestion, Scratch], None]] = {
    "products": _products,
    "leg_counting": _leg_counting,
    "color_cube_rotation": _color_cube_rotation,
    "complex_arithmetic": _complex_arithmetic,
}
