"""`suffice latent` and `suffice stream`: what is learned to decode less, and its use."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from suffice.cli.options import JsonFlag
from suffice.errors import CertificateError, InputError
from suffice.units import show_seconds, show_share

if TYPE_CHECKING:
    from suffice.early_stop.learn import LearnedStop
    from suffice.latent.learn import LearnedRung
    from suffice.selective.gate import CertifiedGate

app = typer.Typer(
    help="Answer from a prediction: rungs for closed-set requests, gates for streams.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

Risk = Literal["error_among_answered", "excess_over_reference"]
Encoder = Literal["wordllama", "minilm"]
Alpha = Annotated[float, typer.Option(help="Largest risk allowed.")]
Delta = Annotated[float, typer.Option(help="Largest probability that the promise fails.")]
Seed = Annotated[int, typer.Option(min=0, help="Deals the rows into the three splits.")]
Out = Annotated[Path | None, typer.Option(help="Folder to write it to.")]


@app.callback()
def latent() -> None:
    """Answer from a prediction, without decoding."""


@app.command()
def fit(
    trials: Annotated[list[Path], typer.Argument(help="Trials, as for certify.")],
    reference: Annotated[str, typer.Option(help="The rung whose answers it predicts.")],
    group: Annotated[str | None, typer.Option(help="Which group of requests.")] = None,
    answers: Annotated[
        Path | None, typer.Option(help="File with the answers that requests list, one a line.")
    ] = None,
    alpha: Alpha = 0.02,
    delta: Delta = 0.1,
    risk: Annotated[Risk, typer.Option(help="What the promise is about.")] = "error_among_answered",
    encoder: Annotated[Encoder, typer.Option(help="minilm needs its extra.")] = "wordllama",
    lapses_after: Annotated[str, typer.Option(help="How long the certificate holds.")] = "30d",
    core_usd_per_hour: Annotated[
        float | None, typer.Option(min=0, help="Rent of one core, to price a decision.")
    ] = None,
    seed: Seed = 0,
    out: Out = None,
    json: JsonFlag = False,
) -> None:
    """Fit a latent rung on the reference rung's own answers, and certify how far it may answer.

    Exits with 3 when nothing could be certified.
    """
    from suffice.certify.promise import lapses_after_s
    from suffice.cli.output import note, print_json, stages
    from suffice.guarantee import RiskKind
    from suffice.latent.learn import LatentTarget, learn_rung
    from suffice.latent.store import EncoderName, open_encoder, save_rung
    from suffice.trials.importers import read_trials

    named = EncoderName(encoder)
    wanted = LatentTarget(
        reference=reference,
        group=group,
        answers=_listed(answers),
        alpha=_share("alpha", alpha),
        delta=_share("delta", delta),
        risk_kind=RiskKind(risk),
        lapses_after_s=lapses_after_s(lapses_after),
        seed=seed,
    )
    with stages() as say:
        outcome = learn_rung(read_trials(*trials), wanted, encoder=open_encoder(named), say=say)
    learned = outcome.learned
    print_json(learned) if json else print(describe(learned))
    if outcome.policy is None or learned.certificate is None:
        note("nothing was certified: allow a larger alpha, or give more trials")
        raise typer.Exit(CertificateError.exit_status)
    if out is not None:
        save_rung(out, outcome.policy, learned.certificate, encoder=named)
        note(f"wrote the rung and its certificate to {out}; in suffice.toml:\n")
        note(_section(out, learned.decision_s, usd_per_hour=core_usd_per_hour))


@app.command()
def stop(
    tasks: Annotated[str, typer.Argument(help="Tasks, as for bench.")],
    ladder: Annotated[Path, typer.Option(help="The suffice.toml to use.")],
    rung: Annotated[str, typer.Option(help="The rung whose reasoning is to stop early.")],
    alpha: Alpha = 0.02,
    delta: Delta = 0.1,
    boundary: Annotated[str, typer.Option(help="What ends a part that can be probed.")] = "\\n",
    opening: Annotated[str, typer.Option(help="The tag that opens reasoning.")] = "<think>",
    close: Annotated[str, typer.Option(help="The tag that closes it.")] = "</think>",
    probe_tokens: Annotated[int, typer.Option(min=1, help="Longest answer probed for.")] = 64,
    lapses_after: Annotated[str, typer.Option(help="How long the certificate holds.")] = "30d",
    seed: Seed = 0,
    traces: Annotated[
        Path | None, typer.Option(help="Keep the traces here, and take up from there.")
    ] = None,
    out: Out = None,
    json: JsonFlag = False,
) -> None:
    """Record a rung's reasoning on tasks, and certify when it may be ended early.

    Exits with 3 when nothing could be certified.
    """
    from suffice.bench.stopping import StopOrder, learn_from_tasks
    from suffice.certify.promise import lapses_after_s
    from suffice.cli.output import note, print_json, stages
    from suffice.early_stop.rule import Marks
    from suffice.early_stop.store import RulesFile, save_stopping

    if not boundary or not close:
        raise InputError("boundary and close cannot be empty", hint="leave them out")
    marks = Marks(
        opening=opening,
        close=close,
        boundary=boundary.replace("\\n", "\n"),
        probe_tokens=probe_tokens,
    )
    order = StopOrder(
        tasks=tasks,
        ladder=ladder,
        rung=rung,
        marks=marks,
        alpha=_share("alpha", alpha),
        delta=_share("delta", delta),
        lapses_after_s=lapses_after_s(lapses_after),
        seed=seed,
        traces=traces,
    )
    with stages() as say:
        learned = learn_from_tasks(order, say=say)
    print_json(learned) if json else print(describe_stop(learned))
    if learned.certificate is None:
        note("nothing was certified: allow a larger alpha, or give more tasks")
        raise typer.Exit(CertificateError.exit_status)
    if out is not None:
        save_stopping(out, RulesFile(rules=learned.rules, marks=marks), learned.certificate)
        note(f"wrote the rules and their certificate to {out}; add to the rung in {ladder}:\n")
        note(f'early_stop = "{out}"')


@app.command()
def gate(
    streams: Annotated[Path, typer.Argument(help="JSONL of stream, text, answer and context.")],
    alpha: Annotated[float, typer.Option(help="Largest share of wrong held answers.")] = 0.05,
    delta: Delta = 0.1,
    drift: Annotated[float, typer.Option(help="Taken off each score.")] = 0.4,
    refresh_events: Annotated[int, typer.Option(help="Oldest held answer, in events.")] = 100,
    refresh_s: Annotated[float | None, typer.Option(help="The same, in seconds.")] = None,
    seed: Seed = 0,
    out: Out = None,
    json: JsonFlag = False,
) -> None:
    """Fit a gate for text streams, and certify how often its held answers are wrong.

    Exits with 3 when nothing could be certified.
    """
    from suffice.cli.output import note, print_json, stages
    from suffice.selective.decoder import GateSettings
    from suffice.selective.gate import THRESHOLDS, fit_gate, read_streams, save_gate

    settings = GateSettings(
        threshold=float(THRESHOLDS[0]),
        drift=drift,
        refresh_events=refresh_events,
        refresh_s=refresh_s,
    )
    alpha, delta = _share("alpha", alpha), _share("delta", delta)
    with stages() as say:
        say("fitting the gate")
        labelled = read_streams(_read(streams).splitlines())
        found = fit_gate(labelled, alpha=alpha, delta=delta, settings=settings, seed=seed)
    print_json(found.file) if json else print(describe_gate(found))
    if not found.calibration.certified:
        note("nothing was certified: allow a larger alpha, or give more streams")
        raise typer.Exit(CertificateError.exit_status)
    if out is not None:
        save_gate(out, found)
        note(f"wrote the gate to {out}; use it with: suffice stream EVENTS --gate {out}")


def describe(learned: "LearnedRung") -> str:
    """Say first whether the target can be met at all, then what was certified."""
    about = "all requests" if learned.group is None else f"group {learned.group!r}"
    lines = [
        f"feasibility: {learned.feasibility}",
        f"{about}: {learned.answers:,} answers; rows: "
        + ", ".join(f"{rows:,} {name}" for name, rows in learned.rows.items())
        + (f"; {learned.left_out:,} without a whole answer left out" if learned.left_out else ""),
    ]
    if not learned.certified:
        lines.append(f"NOT certified at alpha {learned.alpha:g}")
        return "\n".join(lines)
    kind = learned.risk_kind.value.replace("_", " ")
    return "\n".join(
        [
            *lines,
            f"certified: with {show_share(1 - learned.delta)} confidence the {kind} is at most "
            f"{show_share(learned.alpha)} ({learned.errors:g} of {learned.n:,}; bound "
            f"{show_share(learned.bound)})",
            f"on the reporting rows: {show_share(learned.answered)} answered, "
            f"{show_share(learned.error_among_answered)} of those wrong; "
            f"{show_seconds(learned.decision_s)} a decision here",
            "out of scope: "
            + (
                "none in the sample; the certificate is void for such requests"
                if learned.out_of_scope_share is None
                else f"{show_share(learned.out_of_scope_share)} of the sample"
            ),
        ]
    )


def describe_stop(learned: "LearnedStop") -> str:
    """Say what stopping early promises, and what it saved on the reporting traces."""
    figures = learned.figures
    if figures is None:
        return "no rule saves any output token on the fitting traces: the probes cost what they end"
    report = (
        f"on {learned.rows['report']:,} other traces: {show_share(figures.stopped)} stopped early, "
        f"{show_share(figures.saving_tokens)} of output tokens saved, after "
        f"{show_share(figures.probe_tokens)} spent on probes; {show_share(figures.risk)} lost of "
        f"a quality of {show_share(learned.quality)}; {figures.input_ratio:.1f} times the input "
        "tokens, most of them in the engine's cache if it keeps prefixes\n"
        f"{_in_dollars(figures.usd_ratio)}"
    )
    if not learned.certified:
        return f"NOT certified at alpha {learned.alpha:g}: the safest rules are bounded by " + (
            f"{learned.bound:.4f} on {learned.n:,} traces\n{report}"
        )
    return (
        f"certified: with {show_share(1 - learned.delta)} confidence stopping early loses at most "
        f"{show_share(learned.alpha)} of quality against the uncut reasoning, on average over "
        f"requests like these ({learned.n:,} certified it)\n{report}"
    )


def _in_dollars(ratio: float | None) -> str:
    """Say whether stopping early saves money, where the rung has a price."""
    if ratio is None:
        return "in dollars: not checked, for the rung has no price"
    if ratio <= 1:
        return f"in dollars: {show_share(1 - ratio)} saved at the price of the rung"
    return (
        f"WARNING: in dollars it costs {ratio:.2f} times the uncut answer at the rung's price: "
        "each piece and each probe reads the prompt again; leave it off, or state what cached "
        "input costs (cache_read_usd_per_mtok) where the engine keeps prefixes"
    )


def describe_gate(found: "CertifiedGate") -> str:
    """Say what a gate promises and what it saved on the reporting streams."""
    file = found.file
    if not found.calibration.certified:
        return f"NOT certified at alpha {file.alpha:g}: these streams certify {file.bound:.4f}"
    return (
        f"certified: with {show_share(1 - file.delta)} confidence at most "
        f"{show_share(file.alpha)} of events hold a wrong answer, on average over streams like "
        f"these ({file.streams['certify']:,} certified it)\n"
        f"on {file.streams['report']:,} other streams: {show_share(file.held)} right with "
        f"{file.decodes_per_event:.3f} decodes an event; the decoder counts as right"
    )


def _section(folder: Path, decision_s: float, *, usd_per_hour: float | None) -> str:
    """Write the sections of `suffice.toml` that make the rung part of a ladder."""
    name = folder.resolve().name
    key = name if re.fullmatch(r"[\w-]+", name, re.ASCII) else f'"{name}"'
    text = (
        f'[engine.{key}]\nkind = "latent"\nmodel_path = "{folder}"\n\n'
        f'[[ladder]]\nname = "{name}"\nengine = "{name}"\nmodel = "latent"\nvector = "paradigm"\n'
    )
    if usd_per_hour is None:
        return text + "# without a price its charges stay unknown: see --core-usd-per-hour\n"
    usd = usd_per_hour / 3600 * decision_s * 1000
    return (
        f'{text}price = "{name}"\n\n[price.{key}]\ninput_usd_per_mtok = 0\n'
        f"output_usd_per_mtok = 0\nusd_per_thousand_requests = {usd:.3g}\n"
        f'source = "{show_seconds(decision_s)} a decision, one core at {usd_per_hour:g} dollars '
        'an hour"\n'
    )


def _listed(path: Path | None) -> tuple[str, ...]:
    if path is None:
        return ()
    lines = (line.strip() for line in _read(path).decode("utf-8", "replace").splitlines())
    return tuple(line for line in lines if line)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", hint="check the path") from error


def _share(name: str, value: float) -> float:
    if not 0 < value < 1:
        raise InputError(f"{name} {value:g} does not lie between 0 and 1", hint="0.05 is usual")
    return value
