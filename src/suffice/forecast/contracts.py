"""The worst case of an online rule that signs contracts, with its proof.

One block of chips is needed some of the time. A day on demand costs `spend`. A contract signed on
day t costs `fee[t]` and covers `term` days from t. Use under the contract costs `usage_rate`
(alpha) times its price on demand; a committed contract, paid whether used or not, has alpha 0.
This is the Bahncard problem (Fleischer, 2001) with prices that move. For one block it is the
reservation problem of Wang, Li and Liang (arXiv 1305.5608). Their rule signs as soon as the spend
of the last `term` days that no contract covered reaches the break-even b(t) = fee[t] / (1 - alpha).
At constant fees it never costs more than 2 - alpha times hindsight, the best possible.

The forecast rule moves the break-even by a factor theta(t) between `trust` and 1 / `trust`.

Why it cannot cost more than `guaranteed_ratio`. Let hindsight sign on days s_1, s_2, ...; its
contract j covers the interval I_j. Write B_j for what our rule spends in I_j uncovered. Our
contracts do not overlap, so it signs at most once in I_j, and the uncovered days of I_j are one
stretch before that. On the last of them with spend, u, the rule did not sign, hence
B_j < b(u) / trust. Fees rise at most by a factor `rise` within two terms, so
(1 - alpha) B_j <= rise fee(s_j) / trust. Charge each of our fees once:

1. Signed in I_j, or less than a term after it with a part of B_j among the days that led to it:
   charge it to I_j. No second fee falls on I_j, because a contract signed in I_j covers the rest of
   it and a later one looks back only to the days after it was signed. With w the spend in I_j,
   we pay alpha w + (1 - alpha) B_j + rise fee(s_j) at most, hindsight fee(s_j) + alpha w. The ratio
   grows as w falls to B_j, and is largest at the largest B_j, or at B_j = 0 if alpha rise > 1.
2. All days that led to it are outside every I_j: hindsight paid them in full, at least
   trust b(t), and we paid them and the fee: a ratio of at most 1 + (1 - alpha) / trust.

Other days cost us no more than hindsight. So the ratio is at most the largest of

    rise (1 + trust (1 - alpha)) / (trust (1 - alpha) + alpha rise),  rise if alpha rise > 1,
    1 + (1 - alpha) / trust.

Falling fees cost nothing in it; rising ones do. With trust 1 and rise 1 it is 2 - alpha.
"""

from msgspec import Struct

from suffice.errors import InputError

TRUST = 0.75


class ContractTerms(Struct, frozen=True, kw_only=True):
    """A contract's length in days, and the share of the price on demand that use still costs."""

    days: int
    usage_rate: float = 0.0

    def __post_init__(self) -> None:
        if self.days < 1 or not 0 <= self.usage_rate < 1:
            raise InputError(
                f"a contract of {self.days} days at usage rate {self.usage_rate:g}",
                hint="at least one day, and a usage rate of at least 0 and below 1",
            )


def guaranteed_ratio(terms: ContractTerms, *, trust: float = 1.0, rise: float = 1.0) -> float:
    """Return the bound on the rule's cost over hindsight, for theta in [trust, 1 / trust].

    `rise` is the largest factor by which fees rise in less than two terms.
    """
    check_trust(trust)
    paid, kept = 1.0 - terms.usage_rate, terms.usage_rate * rise
    inside = rise * (1.0 + trust * paid) / (trust * paid + kept)
    return max(inside, rise if kept > 1.0 else 1.0, 1.0 + paid / trust)


def check_trust(trust: float) -> None:
    """Raise InputError for a trust outside (0, 1]."""
    if not 0 < trust <= 1:
        raise InputError(f"trust {trust:g}", hint="above 0; 1 follows no forecast")
