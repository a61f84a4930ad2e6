"""The fan of a forecast as a chart."""

from typing import Any

from suffice.forecast.fan import Forecast

NAMES = {"kept": "chip and model kept", "moved": "moved to the cheapest"}


def fan_chart(forecast: Forecast) -> Any:
    """Draw dollars per request by month, kept and moved: the median, 50 % and 80 % bands."""
    import altair as alt

    bands = [
        {
            "month": f"{point.month}-01",
            "course": name,
            "low": values[0],
            "quarter": values[1],
            "median": values[2],
            "three quarters": values[3],
            "high": values[4],
        }
        for point in forecast.points
        for name, values in ((NAMES["kept"], point.kept), (NAMES["moved"], point.moved))
    ]
    base: Any = alt.Chart(alt.Data(values=bands)).encode(  # type: ignore[no-untyped-call]
        x=alt.X("month:T", title=None),
        color=alt.Color("course:N", title=None),
    )
    title = "dollars per request"
    scale = alt.Scale(type="log")
    outer = base.mark_area(opacity=0.2).encode(
        y=alt.Y("low:Q", title=title, scale=scale), y2=alt.Y2("high:Q")
    )
    inner = base.mark_area(opacity=0.35).encode(
        y=alt.Y("quarter:Q", title=title, scale=scale), y2=alt.Y2("three quarters:Q")
    )
    middle = base.mark_line().encode(y=alt.Y("median:Q", title=title, scale=scale))
    return (outer + inner + middle).properties(width=640, height=400)
