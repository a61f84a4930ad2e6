"""The forecast: processes fitted by counting, fans that cover and widen, sourced parameters."""

import datetime as dt
import math
from pathlib import Path

import numpy as np
import pytest
from benchmarks.forecast.fit import STILL, Series, daily, fit_process, monthly, regimes
from msgspec.structs import replace

from suffice.errors import InputError, PriceError
from suffice.files import save_figure
from suffice.forecast.fan import FAN, ForecastQuestion, forecast, model_factors
from suffice.forecast.figures import fan_chart
from suffice.forecast.parameters import Models, Range, parameters, parameters_as_of
from suffice.forecast.process import REGIMES, Level, Process, Simulation, simulate

START = dt.date(2026, 11, 23)
LONG = 10_000.0


def question(**params: object) -> ForecastQuestion:
    return ForecastQuestion(**({"start": START, "paths": 2000} | params))


def series(usd: list[float], *, group: str = "one", quoted: bool = True) -> Series:
    """Quote a price a month, and the last one a month long."""
    days = [math.floor(30.4375 * month) for month in range(len(usd) + 1)]
    dates = tuple(dt.date(2024, 1, 1) + dt.timedelta(days=day) for day in days)
    return Series(group=group, dates=dates, usd=(*usd, usd[-1]), quoted=quoted)


def fit(*rows: Series) -> Process:
    return fit_process(rows, source="test", date="2026-01-01", command="none")


def certain(regime: int, *, move: float = 0.0) -> Process:
    """Make a process that is known exactly and stays in one regime."""
    row = tuple(LONG if at == regime else 0.0 for at in range(3))
    moves = (move,) * 11
    return Process(
        transitions=(row,) * 3,
        falls=moves,
        rises=moves,
        spells=1e9,
        source="test",
        date="2026-01-01",
        command="none",
    )


def test_months_are_counted_by_regime() -> None:
    result = fit(series([1.0, 1.0, 1.0, 0.5, 0.4, 0.4, 0.8]))
    assert result.transitions == ((1.0, 1.0, 1.0), (1.0, 1.0, 0.0), (0.0, 0.0, 0.0))
    assert result.spells == 2.0
    assert result.rises == pytest.approx([math.log(2.0)] * 11, abs=1e-4)
    assert min(result.falls) == pytest.approx(math.log(0.5), abs=1e-4)
    assert max(result.falls) == pytest.approx(math.log(0.8), abs=1e-4)


def test_a_group_counts_as_one_series() -> None:
    one = fit(series([1.0, 1.0, 0.5, 0.5]))
    many = fit(*[series([1.0, 1.0, 0.5, 0.5])] * 4)
    assert many.transitions == one.transitions
    assert many.spells == one.spells
    assert (
        sum(map(sum, fit(series([1.0, 1.0, 0.5]), series([1.0] * 3, group="b")).transitions)) == 2
    )


def test_prices_hold_between_quotes_and_markets_move() -> None:
    days = (dt.date(2026, 1, 1), dt.date(2026, 3, 2))
    quoted = Series(group="a", dates=days, usd=(1.0, 4.0))
    assert daily(quoted).tolist() == [1.0] * 60 + [4.0]
    assert daily(replace(quoted, quoted=False))[30] == pytest.approx(2.0)
    assert len(monthly(quoted)) == 2


def test_rounding_is_no_move() -> None:
    assert regimes(np.array([0.0, STILL / 2, -0.2, 0.2])).tolist() == [0, 0, 1, 2]


def test_series_that_are_too_short_are_an_error() -> None:
    with pytest.raises(InputError, match="three months"):
        fit(series([1.0, 1.0]))


def test_a_known_process_is_followed_exactly() -> None:
    run = Simulation(months=6, paths=500, regime=1)
    rng = np.random.default_rng(0)
    falling = simulate(certain(1, move=-0.1), run, rng=rng)
    assert np.quantile(falling[:, -1], [0.05, 0.95]) == pytest.approx([-0.6, -0.6], abs=0.01)
    still = simulate(certain(0), replace(run, regime=0), rng=rng)
    assert np.quantile(still, [0.01, 0.99]).tolist() == [0.0, 0.0]
    assert (falling[:, 0] == 0).all()


def test_a_price_goes_half_way_to_its_level_in_a_half_life() -> None:
    level = Level(low=math.log(2), high=math.log(2), half_life_months=(6.0, 6.0))
    run = Simulation(months=12, paths=500, regime=0, level=level)
    middle = np.median(simulate(certain(0), run, rng=np.random.default_rng(0)), axis=0)
    assert middle[[6, 12]] == pytest.approx([0.5 * math.log(2), 0.75 * math.log(2)], abs=1e-6)


def test_the_fan_of_a_fitted_process_covers_what_it_describes() -> None:
    """Paths of a known process fall inside the 80 % fan of one fitted to others, about as often."""
    truth = fit(series([1.0, 1.0, 0.9, 0.8, 0.8, 0.8, 1.0, 1.1, 1.1, 1.1, 1.0, 1.0]))
    truth = replace(
        truth,
        spells=1e9,
        transitions=tuple(tuple(100 * n + 20 for n in row) for row in truth.transitions),
    )
    rng = np.random.default_rng(5)
    drawn = simulate(truth, Simulation(months=30, paths=40), rng=rng)
    fitted = fit(*[series(list(np.exp(path)), group=str(n)) for n, path in enumerate(drawn)])
    low, high = np.quantile(
        simulate(fitted, Simulation(months=6, paths=4000), rng=rng)[:, 6], [0.1, 0.9]
    )
    fresh = simulate(truth, Simulation(months=6, paths=4000), rng=rng)[:, 6]
    assert 0.75 < ((low <= fresh) & (fresh <= high)).mean() < 0.88


def test_a_short_history_makes_a_wider_fan() -> None:
    long = fit(*[series([1.0, 1.0, 0.9, 0.9, 1.0, 1.0] * 4, group=str(n)) for n in range(20)])
    short = fit(series([1.0, 1.0, 0.9, 0.9, 1.0, 1.0]))

    def width(process: Process) -> float:
        paths = simulate(process, Simulation(months=12, paths=4000), rng=np.random.default_rng(1))[
            :, -1
        ]
        low, high = np.quantile(paths, [0.1, 0.9])
        return float(high - low)

    assert width(short) > 1.3 * width(long)


def test_the_fan_is_ordered_starts_at_today_and_repeats() -> None:
    result = forecast(question(usd=0.02))
    assert result.points[0].kept == (0.02,) * len(FAN) == result.points[0].moved
    assert [p.month for p in result.points][:3] == ["2026-11", "2026-12", "2027-01"]
    assert result.points[-1].month == "2028-12"
    for point in result.points:
        for fan in (point.kept, point.moved):
            assert list(fan) == sorted(fan)
        assert all(m <= k + 1e-12 for m, k in zip(point.moved, point.kept, strict=True))
    assert result == forecast(question(usd=0.02))
    assert result != forecast(question(usd=0.02, seed=1))


def test_uncertainty_grows_and_no_month_is_a_point() -> None:
    points = forecast(question()).points
    spread = [p.kept[-1] / p.kept[0] for p in points]
    assert spread[1] > 1.0
    assert spread[3] < spread[12] < spread[25]


def test_each_process_has_its_own_factor() -> None:
    result = forecast(question())
    assert list(result.factors) == ["rent", "software", "chips", "models"]
    for name in ("chips", "models"):
        assert max(result.factors[name]) <= 1.0
    hosted = forecast(question(kind="hosted"))
    assert list(hosted.factors) == ["list price", "models"]
    assert hosted.chip is None
    amd = forecast(question(chip="mi300x")).factors["software"]
    assert amd[-1] > 1.0 > amd[0]


def test_chips_come_late_and_never_early() -> None:
    params = parameters()
    late = replace(params, slip=replace(params.slip, months=(6.0, 7.0, 8.0)))
    soon = forecast(question(until="2027-04"), params=late)
    assert soon.factors["chips"] == (1.0,) * len(FAN)
    there = forecast(question(until="2027-12"), params=late)
    assert there.factors["chips"][2] < 1.0


def test_rising_rent_today_is_dearer_tomorrow() -> None:
    medians = [
        forecast(question(until="2027-05", regime=regime)).points[-1].kept[2]
        for regime in ("falling", "still", "rising")
    ]
    assert medians == sorted(medians)
    assert medians[0] < medians[-1]


def test_rent_returns_to_what_owning_costs() -> None:
    dear = forecast(question(rent_usd=8.0)).factors["rent"]
    cheap = forecast(question(rent_usd=1.2)).factors["rent"]
    assert dear[2] < 0.7
    assert cheap[2] > 1.1


def test_models_that_fail_the_certificate_bring_nothing() -> None:
    sure = Models(
        gain_per_year=Range(low=2.0, high=2.0),
        months_between=Range(low=6.0, high=6.0),
        fails=Range(low=1.0, high=1.0),
        source="test",
        date="2026-01-01",
    )
    rng = np.random.default_rng(0)
    assert (model_factors(sure, months=24, paths=100, rng=rng) == 1.0).all()
    never = replace(sure, fails=Range(low=1e-9, high=1e-9))
    result = model_factors(never, months=24, paths=4000, rng=rng)[:, -1]
    assert np.log(result).mean() == pytest.approx(-2 * math.log(2.0), rel=0.05)


def test_every_parameter_has_a_source_and_a_date_that_is_past() -> None:
    params = parameters()
    tables = [params.level, params.software, params.slip, params.models, *params.arrival]
    for table in [*tables, *params.price.values()]:
        assert len(table.source) > 20
        assert dt.date.fromisoformat(table.date) <= START
    for process in params.price.values():
        assert process.command == "python -m benchmarks.forecast --data PATH"
        assert all(x <= -STILL for x in process.falls)
        assert all(x >= STILL for x in process.rises)
    ranges = [*params.software.vendor.values(), *(a.gain for a in params.arrival)]
    ranges += [params.level.owned, params.level.unknown, params.level.half_life_months]
    ranges += [params.models.gain_per_year, params.models.months_between, params.models.fails]
    assert all(0 < r.low <= r.high for r in ranges)
    assert "other" in params.software.vendor
    assert list(params.slip.months) == sorted(params.slip.months)


def test_sources_and_notes_are_given() -> None:
    result = forecast(question())
    assert any("InferenceX-app" in text or "contract" in text for text in result.basis)
    assert any("spells" in text for text in result.notes)
    assert any("--regime" in text for text in result.notes)
    assert not any("--regime" in text for text in forecast(question(regime="still")).notes)


@pytest.mark.parametrize(
    "bad",
    [
        {"until": "2026-11"},
        {"until": "2040-01"},
        {"until": "soon"},
        {"usd": 0.0},
        {"usd": math.nan},
        {"paths": 5},
        {"regime": REGIMES[0].upper()},
        {"chip": "h1000"},
    ],
)
def test_what_cannot_be_forecast_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(InputError) as caught:
        forecast(question(**bad))
    assert caught.value.hint


def test_a_chip_without_a_price_needs_one() -> None:
    with pytest.raises(PriceError, match="mtia-400"):
        forecast(question(chip="mtia-400"))
    with pytest.raises(PriceError):
        forecast(question(rent_usd=-1.0))
    assert forecast(question(chip="mtia-400", rent_usd=3.0)).chip == "mtia-400"


def test_the_figure_has_two_bands_and_a_line_for_each_course() -> None:
    result = fan_chart(forecast(question(until="2027-02"))).to_dict()
    assert [layer["mark"]["type"] for layer in result["layer"]] == ["area", "area", "line"]
    rows = result["data"]["values"]
    assert len(rows) == 2 * 4
    assert all(row["low"] <= row["median"] <= row["high"] for row in rows)


@pytest.mark.slow
def test_the_figure_is_one_page_that_needs_no_network(tmp_path: Path) -> None:
    save_figure(tmp_path / "fan.html", fan_chart(forecast(question(until="2027-02"))))
    page = (tmp_path / "fan.html").read_text("utf-8")
    assert "moved to the cheapest" in page
    assert "https://cdn" not in page


def test_a_market_drifts_as_far_as_it_did_and_either_way() -> None:
    """Prices that fell for years do not say that they go on: the fan holds a rise as well."""
    fallen = [
        series(list(np.exp(-0.04 * np.arange(24))), group=str(n), quoted=False) for n in range(6)
    ]
    process = fit(*fallen)
    assert process.drift == pytest.approx(0.04, rel=0.02)
    assert fit(*[replace(one, quoted=True) for one in fallen]).drift == 0
    still = replace(certain(0), drift=0.05)
    paths = simulate(still, Simulation(months=6, paths=4000), rng=np.random.default_rng(0))
    assert np.std(paths[:, 6]) == pytest.approx(6 * 0.05, rel=0.05)
    assert abs(np.mean(paths[:, 6])) < 0.02


def test_as_of_an_earlier_day_only_what_was_known_then_is_used() -> None:
    day = dt.date(2025, 11, 30)
    known = parameters_as_of(parameters(), day, kind="market")
    assert known.price["market"].date == "2025-11-30"
    assert known.price["market"] != parameters().price["market"]
    assert all(arrival.date <= "2025-11-30" for arrival in known.arrival)
    late = forecast(question(start=day, rent_usd=1.7, until="2026-06", as_of_start=True))
    assert any("as of an earlier day" in note for note in late.notes)
    with pytest.raises(PriceError, match="after 2025-11-30"):
        forecast(question(start=day, until="2026-06", as_of_start=True))
    with pytest.raises(InputError, match="2024-12-31"):
        parameters_as_of(parameters(), dt.date(2020, 1, 1), kind="market")


def test_fans_of_2025_hold_the_contract_prices_of_2026_where_rents_were_rising() -> None:
    """One-year H100 contracts: $1.70 in October 2025, $2.35 in March and $2.65 in June 2026."""
    process = parameters_as_of(parameters(), dt.date(2025, 11, 30), kind="market").price["market"]
    run = Simulation(months=8, paths=4000, regime=REGIMES.index("rising"))
    paths = simulate(process, run, rng=np.random.default_rng(0))
    for months, usd in ((5, 2.35), (8, 2.65)):
        low, high = np.exp(np.quantile(paths[:, months], [0.1, 0.9]))
        assert low < usd / 1.70 < high
