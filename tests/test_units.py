from decimal import Decimal

import pytest

from suffice import units


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50ms", 0.05),
        ("1.5s", 1.5),
        ("2m", 120.0),
        ("30d", 2_592_000.0),
        ("7us", 7e-6),
        (" 3 h ", 10800.0),
    ],
)
def test_durations_are_read_with_their_unit(text: str, expected: float) -> None:
    assert units.seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "5", "ms", "-1s", "1 fortnight", "1e3s"])
def test_a_duration_without_a_known_unit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        units.seconds(text)


def test_rates_are_exact() -> None:
    assert units.usd_per_token(Decimal("0.15")) * 1_000_000 == Decimal("0.15")


@pytest.mark.parametrize(
    ("usd", "shown"),
    [
        (None, "unknown"),
        (Decimal(0), "$0.00"),
        (Decimal("1234.5"), "$1,234.50"),
        (Decimal("0.00123456"), "$0.00123"),
        (Decimal("1.5e-9"), "$1.50e-9"),
    ],
)
def test_dollars_are_shown_with_the_digits_that_matter(usd: Decimal | None, shown: str) -> None:
    assert units.show_usd(usd) == shown


def test_shares_and_times_are_shown_for_people() -> None:
    assert units.show_share(0.7234) == "72.3 %"
    assert units.show_share(None) == "unknown"
    assert units.show_seconds(0.0123) == "12.3 ms"
    assert units.show_seconds(12.34) == "12.3 s"
    assert units.show_seconds(125) == "2 min 05 s"
    assert units.show_seconds(3720) == "1 h 02 min"
    assert units.show_seconds(None) == "unknown"
