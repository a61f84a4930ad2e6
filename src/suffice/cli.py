"""The command line: thin commands over the library, one exit status for each kind of error."""

import sys
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from suffice import __version__, latent_commands
from suffice.errors import CertificateError, InputError, SufficeError, writing
from suffice.evidence.commands import claims_command
from suffice.gateway import key_command
from suffice.latent.train import command as train_command
from suffice.reference_model import command as reference_command
from suffice.silicon import commands as silicon_commands
from suffice.silicon.forecast import commands as forecast_commands

if TYPE_CHECKING:
    from suffice.commands import Settled

app = typer.Typer(
    help="Spend the least compute that suffices, prove it, and keep the books.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(silicon_commands.app, name="plan")
app.command("forecast")(forecast_commands.forecast)
app.command("contract")(forecast_commands.contract)
app.command("claims")(claims_command)
app.add_typer(train_command.app, name="train")
app.add_typer(latent_commands.app, name="latent")
app.command()(latent_commands.stream)
app.add_typer(key_command.app, name="key")
train_command.app.command()(reference_command.reference)
train_command.app.command()(reference_command.export)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
TrialFiles = Annotated[
    list[Path], typer.Argument(help="Trials: JSONL, gzip too, or Inspect logs and folders of them.")
]
ReferenceOrNone = Annotated[
    str | None,
    typer.Option(help="The rung promised against; else that of --ladder, or the ledger."),
]
AlphaOrNone = Annotated[float | None, typer.Option(help="Largest risk allowed (0.05).")]
DeltaOrNone = Annotated[
    float | None, typer.Option(help="Largest probability that the promise fails (0.1).")
]
TargetsFrom = Annotated[
    Path | None, typer.Option("--ladder", help="A suffice.toml whose reference and targets hold.")
]
Alpha = Annotated[float, typer.Option(help="Largest risk allowed.")]
Delta = Annotated[float, typer.Option(help="Largest probability that the promise fails.")]
Seed = Annotated[int, typer.Option(min=0, help="Deals the requests into the three splits.")]
Lapses = Annotated[str | None, typer.Option(help="How long the certificate holds (30d).")]
BundleOut = Annotated[Path | None, typer.Option(help="Folder for the policy and its certificate.")]
LadderFile = Annotated[Path, typer.Option("--ladder", help="The suffice.toml to use.")]


def main(arguments: list[str] | None = None) -> None:
    """Run one command; errors end it with their hint and status, never with a traceback."""
    try:
        app(args=arguments)
    except SufficeError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_status) from None
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(141) from None


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Answer each request on the cheapest compute that meets a certified quality target."""
    if show:
        print(__version__)
        raise typer.Exit


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("suffice.toml"),
    example: Annotated[
        str, typer.Option(help="Which example: embedded, or a shipped ladder such as small4-vllm.")
    ] = "embedded",
) -> None:
    """Write an example suffice.toml to start from; never overwrites."""
    from suffice.ladder import example_text

    if path.exists():
        raise InputError(f"{path} exists already", hint="name another file; nothing is overwritten")
    text = example_text(example)
    with writing(path):
        path.write_text(text, "utf-8")
    print(f"wrote {path}; check it with: suffice ladder {path}")


@app.command()
def ladder(path: Annotated[Path, typer.Argument(help="The suffice.toml to check.")]) -> None:
    """Check a ladder without calling any engine, and show what each rung will send."""
    import msgspec

    from suffice.config import load_config
    from suffice.engines import request_fields
    from suffice.ladder import build_ladder

    config = load_config(path)
    built = build_ladder(config)
    for rung in built:
        sent = msgspec.json.encode(request_fields(rung, config.engine[rung.engine])).decode()
        mark = "  (reference)" if rung == built.reference else ""
        print(
            f"{rung.name}{mark}\n  engine {rung.engine}, price {rung.price or 'unknown'}\n  {sent}"
        )
    for note in built.notes:
        print(f"note: {note}", file=sys.stderr)


@app.command()
def bench(
    tasks: Annotated[str, typer.Argument(help="JSONL of tasks, or reasoning-gym:NAME[,NAME]?...")],
    ladder: LadderFile,
    out: Annotated[Path, typer.Option(help="Trials file; an existing one is resumed.")],
    max_usd: Annotated[
        str | None, typer.Option(help="Stop before more than this many dollars are spent.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="Name of the rung that marks open-ended answers.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Run tasks on every rung into trials; resumable after a kill at any point."""
    from suffice.bench.progress import show_progress
    from suffice.commands import bench_tasks
    from suffice.config import load_config
    from suffice.terminal import print_bench, print_json

    cap = None if max_usd is None else _amount(max_usd)
    result = bench_tasks(
        load_config(ladder), tasks, out=out, max_usd=cap, judge=judge, show=show_progress
    )
    print_json(result) if json else print_bench(result)


@app.command()
def certify(
    trials: TrialFiles,
    reference: ReferenceOrNone = None,
    alpha: AlphaOrNone = None,
    delta: DeltaOrNone = None,
    seed: Seed = 0,
    labels: Annotated[
        Path | None, typer.Option(help="Human labels (request_id, rung, quality) of judged trials.")
    ] = None,
    agreement: Annotated[
        bool, typer.Option("--agreement", help="Take the reference's own answers for right.")
    ] = False,
    lapses_after: Lapses = None,
    ladder: TargetsFrom = None,
    out: BundleOut = None,
    json: JsonFlag = False,
) -> None:
    """Fit a policy, certify how far it may go, and report on requests that took no part.

    Exits with 3 when nothing cheaper than the reference could be certified.
    """
    from suffice.commands import Targeted, certify_files
    from suffice.terminal import stages

    given = Targeted(reference=reference, alpha=alpha, delta=delta, lapses_after=lapses_after)
    promise = given.promise(ladder, seed=seed)
    with stages() as say:
        settled = certify_files(trials, promise, labels=labels, agreement=agreement, say=say)
    _conclude(settled, out=out, json=json)


@app.command()
def recertify(
    ledger: Annotated[str, typer.Argument(help="Ledger file, or a database URL.")],
    reference: ReferenceOrNone = None,
    alpha: AlphaOrNone = None,
    delta: DeltaOrNone = None,
    seed: Seed = 0,
    lapses_after: Lapses = None,
    ladder: TargetsFrom = None,
    out: BundleOut = None,
    json: JsonFlag = False,
) -> None:
    """Make the next certificate from the audited and scored requests of a ledger.

    Exits with 3 when nothing cheaper than the reference could be certified.
    """
    from suffice.commands import Targeted, certify_ledger, reference_of
    from suffice.ledger import Ledger
    from suffice.terminal import stages

    with stages() as say, Ledger.open(ledger, read_only=True) as opened:
        if reference is None and ladder is None:
            reference = reference_of(opened)
        given = Targeted(reference=reference, alpha=alpha, delta=delta, lapses_after=lapses_after)
        settled = certify_ledger(opened, given.promise(ladder, seed=seed), say=say)
    _conclude(settled, out=out, json=json)


@app.command()
def frontier(trials: TrialFiles, json: JsonFlag = False) -> None:
    """Show quality per generated token: what a right answer costs on each rung."""
    from suffice.bench.frontier import frontier as work_out
    from suffice.bench.importers import read_trials
    from suffice.terminal import print_frontier, print_json

    found = work_out(read_trials(*trials))
    print_json(found) if json else print_frontier(found)


@app.command()
def answer(
    requests: Annotated[str, typer.Argument(help="Requests to answer, in the form of tasks.")],
    ladder: LadderFile,
    ledger: Annotated[str, typer.Option(help="Ledger file, or a database URL.")],
    out: Annotated[Path, typer.Option(help="Where the answers go, one JSON object a line.")],
    certificate: Annotated[
        Path | None, typer.Option(help="Folder that certify wrote; without it, the reference.")
    ] = None,
    audit: Annotated[
        float, typer.Option(help="Share of requests that every rung answers, to be scored.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Draws the audited requests.")] = 0,
    store_text: Annotated[
        bool, typer.Option("--store-text", help="Keep prompts and answers, as recertify needs.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Answer requests through the certified policy, and book every one in the ledger."""
    from suffice.batch import Batch, answer_requests
    from suffice.bench.progress import show_progress
    from suffice.terminal import print_answers, print_json

    batch = Batch(
        requests=requests,
        ladder=ladder,
        ledger=ledger,
        out=out,
        bundle=certificate,
        audit_share=audit,
        seed=seed,
        store_text=store_text,
    )
    result = answer_requests(batch, show=show_progress)
    print_json(result) if json else print_answers(result)


@app.command()
def serve(
    ladder: LadderFile,
    policy: Annotated[
        Path | None, typer.Option(help="Folder that certify wrote; without it, the reference.")
    ] = None,
    observe: Annotated[
        bool, typer.Option("--observe", help="Answer as asked; audit, and report what it saves.")
    ] = False,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8080,
    workers: Annotated[int, typer.Option(min=1, help="How many processes.")] = 1,
    ssl_certfile: Annotated[str | None, typer.Option(help="Certificate file, for TLS.")] = None,
    ssl_keyfile: Annotated[str | None, typer.Option(help="Key file of the certificate.")] = None,
) -> None:
    """Serve the OpenAI chat API, each request on the cheapest rung that the policy keeps."""
    from suffice.gateway.command import Listen, serve
    from suffice.gateway.serving import Settings

    settings = Settings(ladder=ladder, policy=policy, observe=observe, workers=workers)
    listen = Listen(host=host, port=port, ssl_certfile=ssl_certfile, ssl_keyfile=ssl_keyfile)
    serve(settings, listen)


@app.command()
def report(
    source: Annotated[str, typer.Argument(help="A ledger (file or URL), or a file of trials.")],
    out: Annotated[Path, typer.Option(help="The HTML page to write.")] = Path("report.html"),
    reference: Annotated[
        str | None, typer.Option(help="Certify the trials against this rung, and show it.")
    ] = None,
    alpha: Alpha = 0.05,
    delta: Delta = 0.1,
    seed: Seed = 0,
    json: JsonFlag = False,
) -> None:
    """Write one self-contained HTML page about trials or a ledger, or the same as JSON."""
    from suffice.commands import Promise, report_on, write_report
    from suffice.terminal import note, print_json, stages

    promise = None
    if reference is not None:
        promise = Promise(reference=reference, alpha=alpha, delta=delta, seed=seed)
    with stages() as say:
        found = report_on(source, promise, say=say)
    if json:
        print_json(found)
    else:
        write_report(out, found)
        note(f"wrote {out}")


@app.command()
def compound(
    workload: Annotated[Path, typer.Argument(help="The workload file, fixed before measuring.")],
    trials: TrialFiles,
    out: Annotated[Path, typer.Option(help="The HTML page to write.")] = Path("compound.html"),
    seed: Annotated[int, typer.Option(min=0, help="Deals the splits, draws the resamples.")] = 0,
    json: JsonFlag = False,
) -> None:
    """Replay every combination of levers: what they are worth together, and apart.

    Exits with 3 when the combination of all levers could not be certified.
    """
    from datetime import UTC, datetime

    from suffice.bench.compound import compound_files
    from suffice.commands import write_page
    from suffice.report.compound import compound_page
    from suffice.terminal import note, print_compound, print_json, stages

    with stages() as say:
        found = compound_files(workload, trials, made=datetime.now(UTC), seed=seed, say=say)
    if json:
        print_json(found)
    else:
        print_compound(found)
        write_page(out, compound_page(found))
        note(f"wrote {out}")
    if not found.certified:
        raise typer.Exit(CertificateError.exit_status)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where the trials and the report go.")] = Path(
        "suffice-demo"
    ),
    compound: Annotated[
        bool, typer.Option("--compound", help="Instead: all levers together, on one live workload.")
    ] = False,
) -> None:
    """Certify on recorded outcomes, run a live bench in this process, and write the reports.

    With --compound, measure what all levers are worth together and apart: some minutes.
    """
    from suffice.demo import run_compound_demo, run_demo

    run_compound_demo(folder) if compound else run_demo(folder)


def _conclude(settled: "Settled", *, out: Path | None, json: bool) -> None:
    """Print what certifying came to, keep the bundle, and exit with 3 if nothing was certified."""
    from suffice.bundle import save_bundle
    from suffice.terminal import note, print_json, print_result

    print_json(settled.result) if json else print_result(settled.result)
    if settled.bundle is None:
        note(settled.advice)
        raise typer.Exit(CertificateError.exit_status)
    if out is not None:
        save_bundle(out, settled.bundle)
        note(f"wrote the policy and its certificate to {out}")


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or amount < 0:
        raise InputError(f"{text!r} is not an amount of dollars", hint="write it as 2.50")
    return amount
