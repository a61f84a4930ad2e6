"""Draw the figure of the README again: `python -m tools.figures` certifies recorded outcomes."""

import json
from importlib.resources import as_file, files
from pathlib import Path

import vl_convert

from suffice import Promise, certify_files
from suffice.report.charts import VEGALITE, spec
from suffice.report.trial_figures import trial_figures
from suffice.report.trials_gather import trials_report

OUT = Path(__file__).parents[1] / "docs" / "figures" / "certified.svg"


def main() -> None:
    """Certify at alpha 5 % and write the first figure of the report."""
    with as_file(files("suffice") / "data" / "bbh_outcomes.jsonl.gz") as path:
        certification = certify_files([path], Promise(reference="cot", alpha=0.05, delta=0.1))
    report = trials_report(certification.trials, source=path.name, certification=certification)
    first = next(trial_figures(report))
    chart = json.loads(spec(first)) | {"width": 640, "background": "white"}
    OUT.write_text(vl_convert.vegalite_to_svg(chart, vl_version=VEGALITE), "utf-8")
    print(f"wrote {OUT.name}: {first.title}")


if __name__ == "__main__":
    main()
