"""The tour of `make demo`: it shows only what it has computed in the same run."""

import gzip
import time
from importlib.resources import as_file, files
from pathlib import Path

from suffice.batch import Batch, BatchResult, answer_requests
from suffice.bench.progress import show_progress
from suffice.bench.run import BenchResult, bench_tasks
from suffice.bench.shipped import WORKLOAD, measure_compound
from suffice.bench.sources import load_tasks
from suffice.certify.bundle import save_bundle
from suffice.certify.bundling import Certification, settle
from suffice.certify.promise import Promise
from suffice.certify.result import CertifyResult
from suffice.cli.certify_output import print_promise, print_saving, print_worth
from suffice.cli.output import (
    note,
    print_answers,
    print_bench,
    print_compound,
    say,
    stages,
)
from suffice.config import load_config, parse_config
from suffice.errors import InputError
from suffice.files import write_file
from suffice.guarantee import LabelSource
from suffice.ladder import example_text
from suffice.ledger import Ledger, calls, totals
from suffice.report.compound import compound_page
from suffice.report.gather import report_on, write_report
from suffice.report.trials_gather import trials_report
from suffice.trials.importers import read_trials
from suffice.units import show_seconds, show_share, show_usd

RECORDED, TASKS = "bbh_outcomes.jsonl.gz", "demo_tasks.jsonl.gz"
FRESH = 8  # every eighth task is not benched, but answered later as fresh traffic
CONFIG, TRIALS, COMPOUND_TRIALS, BUNDLE, BOOKS, ANSWERS = (
    "suffice.toml",
    "live-trials.jsonl",
    "compound-trials.jsonl",
    "policy",
    "books.sqlite",
    "answers.jsonl",
)


def run_demo(folder: Path) -> None:
    """Certify on recorded outcomes, then live: bench, certify, answer fresh requests, report."""
    started_s = time.monotonic()
    _empty(folder)
    say("1. Recorded outcomes: BIG-Bench-Hard, one model with and without chain of thought")
    certification = certify_recorded()
    _print_briefly(certification.result)
    pages = [folder / "certified.html"]
    write_report(
        pages[0], trials_report(certification.trials, source=RECORDED, certification=certification)
    )
    say("\n2. Live: a small reasoning model in this process, at three efforts")
    print_bench(bench_live(folder))
    certification = certify_live(folder)
    _print_briefly(certification.result)
    pages.append(folder / "live.html")
    write_report(
        pages[1], trials_report(certification.trials, source=TRIALS, certification=certification)
    )
    if certification.bundle is None:
        note(certification.result.advice)
    else:
        say("\n3. Fresh requests through the certified policy, every one booked")
        print_answers(answer_fresh(folder))
        print_books(folder / BOOKS)
        pages.append(folder / "books.html")
        with stages() as stage:
            write_report(pages[2], report_on(str(folder / BOOKS), None, say=stage))
    paths = "\n  ".join(map(str, pages))
    say(f"\nDone in {show_seconds(time.monotonic() - started_s)}. Look at:\n  {paths}")


def run_compound_demo(folder: Path) -> None:
    """Measure the compound workload that ships, live on the embedded ladder, and write its page."""
    started_s = time.monotonic()
    _empty(folder)
    say("Live: three kinds of requests, four levers, every combination of them\n")
    (folder / WORKLOAD).write_bytes((files("suffice") / "data" / WORKLOAD).read_bytes())
    config = parse_config(example_text("embedded"))
    with stages() as stage:
        measurement = measure_compound(config, out=folder / COMPOUND_TRIALS, say=stage)
    print_bench(measurement.benched)
    say("")
    print_compound(measurement.compound)
    page = folder / "compound.html"
    write_file(page, compound_page(measurement.compound))
    say(f"\nDone in {show_seconds(time.monotonic() - started_s)}. Look at:\n  {page}")


def certify_recorded() -> Certification:
    """Certify the packaged outcomes at alpha 0.05, delta 0.1."""
    promise = Promise(reference="cot", alpha=0.05, delta=0.1)
    with stages() as stage, as_file(files("suffice") / "data" / RECORDED) as path:
        return settle(read_trials(path), promise.ask(LabelSource.TARGET), say=stage)


def bench_live(folder: Path) -> BenchResult:
    """Run the packaged tasks on all rungs of the embedded ladder."""
    (folder / CONFIG).write_text(example_text("embedded"), "utf-8")
    benched, fresh = _split_tasks()
    _write(folder / "tasks.jsonl", benched)
    _write(folder / "fresh.jsonl", fresh)
    config = load_config(folder / CONFIG)
    tasks, out = load_tasks(folder / "tasks.jsonl"), folder / TRIALS
    return bench_tasks(config, tasks, out=out, max_usd=None, judge=None, show=show_progress)


def certify_live(folder: Path) -> Certification:
    """Certify a policy over the three efforts against the highest, at the ladder's targets."""
    config = load_config(folder / CONFIG)
    targets = config.targets
    promise = Promise(reference=config.reference, alpha=targets.alpha, delta=targets.delta)
    with stages() as stage:
        certification = settle(
            read_trials(folder / TRIALS), promise.ask(LabelSource.TARGET), say=stage
        )
    if certification.bundle is not None:
        save_bundle(folder / BUNDLE, certification.bundle)
    return certification


def answer_fresh(folder: Path) -> BatchResult:
    """Answer the tasks that were not benched through the certified policy, and book them."""
    batch = Batch(
        requests=str(folder / "fresh.jsonl"),
        ladder=folder / CONFIG,
        ledger=str(folder / BOOKS),
        out=folder / ANSWERS,
        bundle=folder / BUNDLE,
    )
    return answer_requests(batch, show=show_progress)


def print_books(path: Path) -> None:
    """Print the sums of the books: tokens by rung, and the cost on the reference."""
    with Ledger.open(str(path), read_only=True) as ledger:
        rungs, (whole,) = calls(ledger, by="rung"), totals(ledger)
    for rung in rungs:
        tokens = rung.output_tokens
        known = tokens.reported + tokens.counted
        say(f"  {rung.key}: {rung.calls:,} calls, {known:,} output tokens")
    spent, saved = whole.compared.known_usd, whole.saved.known_usd
    if spent + saved:
        share = float(saved / (spent + saved))
        say(
            f"  always the reference would have cost about {show_usd(spent + saved)}; "
            f"saved about {show_usd(saved)} ({show_share(share)}), both estimated"
        )


def _print_briefly(result: CertifyResult) -> None:
    """Print the promise and what it is worth; the page that is named at the end has the rest."""
    print_promise(result)
    print_worth(result)
    print_saving(result)


def _split_tasks() -> tuple[list[str], list[str]]:
    """Split the packaged tasks into those to bench and those to answer afterwards."""
    text = gzip.decompress((files("suffice") / "data" / TASKS).read_bytes()).decode("utf-8")
    lines = text.splitlines()
    fresh = lines[::FRESH]
    kept = set(fresh)
    return [line for line in lines if line not in kept], fresh


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def _empty(folder: Path) -> None:
    """Make the folder, and delete the files of an earlier demo that this one would resume."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot make {folder}: {error.strerror}", hint="name another --folder"
        ) from error
    for name in (TRIALS, COMPOUND_TRIALS, BOOKS, ANSWERS):
        for old in folder.glob(f"{name}*"):
            old.unlink()
