"""An option of a plan: one chip and layout, with its speed and its cost."""

from decimal import Decimal

from msgspec import Struct


class Option(Struct, frozen=True, kw_only=True):
    """One chip and layout: speed and cost with 90 % intervals; dollars are None without a price.

    `usd_per_mtok` is per million output tokens with the reading of their prompts included;
    `usd_per_mtok_total` per million tokens in and out. `read_tokens_per_s` (of tokens that no cache
    holds) and `output_tokens_per_s` are what the replica does when it only reads or only writes: a
    request takes its new input over the one plus its output over the other of the replica's time.
    `replica_chips` may be a fraction where several decode replicas share prefill chips.
    """

    chip: str
    layout: str
    replica_chips: float
    batch: int
    tpot_s: float
    tpot_low_s: float
    tpot_high_s: float
    ttft_s: float
    ttft_low_s: float
    ttft_high_s: float
    output_tokens_per_s: float
    read_tokens_per_s: float
    requests_per_s: float
    usd_per_mtok: float | None
    usd_per_mtok_low: float | None
    usd_per_mtok_high: float | None
    usd_per_mtok_total: float | None
    chip_usd_per_hour: Decimal | None
    price_source: str | None
    chips_needed: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def tokens_per_s_per_user(self) -> float:
        """Interactivity: output tokens a second that one user sees."""
        return 1 / self.tpot_s
