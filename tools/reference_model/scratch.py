"""The steps of a written solution, each of a kind, some of them deliberate slips.

A slip is a wrong result that is not trained. The check that finds it and the repeated work are
trained, so that a model learns to check and not to err.
"""

from random import Random

from msgspec import Struct


class ScratchStep(Struct, frozen=True):
    """A step of a solution; `learned` is False for a slip, which is not trained."""

    text: str
    kind: str
    learned: bool = True


class Scratch:
    """Collects steps; a step of a kind in `without` is computed but not written.

    `slip` is the number of the arithmetic result to get wrong, counted from 0; None for no slip.
    `brief` selects the shorter notation where there are two.
    """

    def __init__(
        self,
        rng: Random,
        *,
        without: frozenset[str] = frozenset(),
        slip: int | None = None,
        brief: bool = False,
    ) -> None:
        self.steps: list[ScratchStep] = []
        self.results = 0
        self.brief = brief
        self._rng, self._without, self._slip = rng, without, slip

    def write(self, text: str, kind: str = "work", *, learned: bool = True) -> None:
        """Write a step, unless its kind is left out."""
        if kind not in self._without:
            self.steps.append(ScratchStep(text, kind, learned))

    def combine(self, a: int, b: int) -> int:
        """Write the sum of two whole numbers of any sign, column by column from the right."""
        self.write(f"{a}{b:+d}")
        if (a < 0) == (b < 0):
            size = self._sum(abs(a), abs(b))
            return self.result(-size if a < 0 else size)
        large, small = sorted((a, b), key=abs, reverse=True)
        size = self.difference(abs(large), abs(small))
        return self.result(-size if large < 0 else size)

    def result(self, value: int) -> int:
        """Write a result and return it; the slip is a near miss instead."""
        self.results += 1
        wrong = self._slip == self.results - 1
        value = self._near(value) if wrong else value
        self.write("=")
        self.write(str(value), learned=not wrong)
        self.write("\n")
        return value

    def _sum(self, a: int, b: int) -> int:
        columns, carry = [], 0
        for x, y in _aligned(a, b):
            total = x + y + carry
            columns.append(f"{x}+{y}{'+1' if carry else ''}={total}")
            carry = total // 10
        self.write(f":{' '.join(columns)} ", "columns")
        return a + b

    def difference(self, a: int, b: int) -> int:
        """Subtract the smaller from the larger; a minuend of 10 or more shows that it borrowed."""
        columns, borrow = [], 0
        for x, y in _aligned(a, b):
            over = x - borrow
            borrow = int(over < y)
            columns.append(f"{over + 10 * borrow}-{y}={over + 10 * borrow - y}")
        self.write(f":{' '.join(columns)} ", "columns")
        return a - b

    def rest(self, a: int, b: int) -> int:
        """Return `a % b`; write the multiple of b below a, and subtract it unless `brief`."""
        times = a // b
        multiple = f"{b}*{times}={b * times}"
        if self.brief:
            self.write(f"{multiple}:{a % b}\n")
            return a % b
        self.write(f"{a}%{b}:{multiple} ", "columns")
        self.write(f"{a}-{b * times}")
        self.difference(a, b * times)
        return self.result(a % b)

    def product(self, first: int, second: int) -> int:
        """Multiply by one digit of the second factor after the other, and add, unless `brief`."""
        total = 0
        for place, digit in enumerate(reversed(str(second))):
            part = int(digit) * 10**place
            if not part:
                continue
            if self.brief:
                self.write(f"{first * part}\n")
                total += first * part
                continue
            self.write(f"{first}*{part}")
            self._digits(first, int(digit))
            self.result(first * part)
            total = self.combine(total, first * part) if total else first * part
        return total

    def _digits(self, number: int, digit: int) -> None:
        """Write the products of a digit with those of a number, from the right, with carries."""
        columns, carry = [], 0
        for figure in reversed(str(number)):
            value = int(figure) * digit + carry
            columns.append(f"{figure}*{digit}{f'+{carry}' if carry else ''}={value}")
            carry = value // 10
        self.write(f":{' '.join(columns)} ", "columns")

    def _near(self, value: int) -> int:
        digits = list(str(abs(value)))
        place = self._rng.randrange(len(digits))
        digits[place] = str((int(digits[place]) + self._rng.choice((1, 2, 8, 9))) % 10)
        return int("".join(digits)) * (-1 if value < 0 else 1)


def _aligned(a: int, b: int) -> list[tuple[int, int]]:
    """Pair the digits of two numbers from the right; the shorter number is padded with zeros."""
    width = max(len(str(a)), len(str(b)))
    pairs = zip(reversed(str(a).zfill(width)), reversed(str(b).zfill(width)), strict=True)
    return [(int(x), int(y)) for x, y in pairs]
