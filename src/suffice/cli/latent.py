"""`suffice latent`: learn rungs, early stops and gates, so that fewer tokens are decoded."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from suffice.cli.choose import choose
from suffice.cli.options import (
    Alpha,
    CoreUsdPerHour,
    Delta,
    Json,
    Ladder,
    LapsesAfter,
    LatentRisk,
    Reference,
    Rung,
    Seed,
    TrialFiles,
    out,
    share,
)
from suffice.errors import CertificateError, InputError
from suffice.files import check_file, check_folder
from suffice.units import show_seconds, show_share

if TYPE_CHECKING:
    from suffice.early_stop.learn import LearnedStop
    from suffice.latent.learn import LearnedRung
    from suffice.selective.gate import CertifiedGate

app = typer.Typer(
    help="Learn to answer without decoding: rungs, early stops, gates for streams.",
    no_args_is_help=True,
)

Encoder = Literal["wordllama", "minilm"]
app.command()(choose)


@app.callback()
def latent() -> None:
    """Learn to answer without decoding: rungs, early stops, gates for streams."""


@app.command()
def fit(
    trials: TrialFiles,
    reference: Reference,
    group: Annotated[str | None, typer.Option(help="Group of requests to answer.")] = None,
    answers: Annotated[
        Path | None,
        typer.Option(help="File of the possible answers, one on each line."),
    ] = None,
    alpha: Alpha = 0.02,
    delta: Delta = 0.1,
    risk: LatentRisk = "error_among_answered",
    encoder: Annotated[
        Encoder, typer.Option(help="Text encoder; minilm needs the extra `latent`.")
    ] = "wordllama",
    lapses_after: LapsesAfter = "30d",
    core_usd_per_hour: CoreUsdPerHour = None,
    seed: Seed = 0,
    out: Annotated[Path | None, out("Folder for the rung and its certificate.")] = None,
    json: Json = False,
) -> None:
    """Fit a latent rung on the reference rung's own answers, and certify how far it may answer.

    Exit status 3 says that nothing could be certified.
    """
    from suffice.certify.promise import lapses_after_s
    from suffice.cli.output import note, print_json, say, stages
    from suffice.guarantee import RiskKind
    from suffice.latent.learn import LatentTarget, learn_rung
    from suffice.latent.rung_folder import EncoderName, open_encoder, save_rung
    from suffice.trials.importers import read_trials
    from suffice.types import ZeroCost

    if out is not None:
        check_folder(out)
    name = EncoderName(encoder)
    target = LatentTarget(
        reference=reference,
        group=group,
        answers=_read_answers(answers),
        alpha=share("alpha", alpha),
        delta=share("delta", delta),
        risk_kind=RiskKind(risk),
        lapses_after_s=lapses_after_s(lapses_after),
        seed=seed,
    )
    with stages() as stage:
        read = read_trials(*trials, zero_cost=ZeroCost.FREE)  # no cost is looked at
        result = learn_rung(read, target, encoder=open_encoder(name), say=stage)
    learned = result.learned
    print_json("latent fit", learned) if json else say(describe_rung(learned))
    if result.policy is None or learned.certificate is None:
        note("nothing was certified: allow a larger alpha, or give more trials")
        raise typer.Exit(CertificateError.exit_status)
    if out is not None:
        save_rung(out, result.policy, learned.certificate, encoder=name)
        note(f"wrote the rung and its certificate to {out}; in suffice.toml:\n")
        note(_section(out, learned.decision_s, usd_per_hour=core_usd_per_hour))


@app.command()
def stop(
    tasks: Annotated[str, typer.Argument(help="Tasks, as for bench.")],
    ladder: Ladder,
    rung: Rung,
    alpha: Alpha = 0.02,
    delta: Delta = 0.1,
    boundary: Annotated[str, typer.Option(help="End of a part that can be probed.")] = "\\n",
    opening: Annotated[str, typer.Option(help="Tag that opens reasoning.")] = "<think>",
    close: Annotated[str, typer.Option(help="Tag that closes reasoning.")] = "</think>",
    probe_tokens: Annotated[
        int, typer.Option(min=1, help="Longest answer of a probe, in tokens.")
    ] = 64,
    lapses_after: LapsesAfter = "30d",
    seed: Seed = 0,
    traces: Annotated[
        Path | None, typer.Option(help="File for the traces; an existing one is resumed.")
    ] = None,
    out: Annotated[Path | None, out("Folder for the rules and their certificate.")] = None,
    json: Json = False,
) -> None:
    """Record a rung's reasoning on tasks, and certify when it may be ended early.

    Exit status 3 says that nothing could be certified.
    """
    from suffice.bench.stopping import StopOrder, learn_from_tasks
    from suffice.certify.promise import lapses_after_s
    from suffice.cli.output import note, print_json, say, stages
    from suffice.early_stop.rule import ReasoningTags
    from suffice.early_stop.rules_folder import RulesFile, save_stopping

    if out is not None:
        check_folder(out)
    if traces is not None:
        check_file(traces)
    if not boundary or not close:
        raise InputError("boundary and close cannot be empty", hint="leave them out")
    tags = ReasoningTags(
        opening=opening,
        close=close,
        boundary=boundary.replace("\\n", "\n"),
        probe_tokens=probe_tokens,
    )
    order = StopOrder(
        tasks=tasks,
        ladder=ladder,
        rung=rung,
        tags=tags,
        alpha=share("alpha", alpha),
        delta=share("delta", delta),
        lapses_after_s=lapses_after_s(lapses_after),
        seed=seed,
        traces=traces,
    )
    with stages() as stage:
        learned = learn_from_tasks(order, say=stage)
    print_json("latent stop", learned) if json else say(describe_stop(learned))
    if learned.certificate is None:
        note("nothing was certified: allow a larger alpha, or give more tasks")
        raise typer.Exit(CertificateError.exit_status)
    if out is not None:
        save_stopping(out, RulesFile(rules=learned.rules, tags=tags), learned.certificate)
        note(f"wrote the rules and their certificate to {out}; add to the rung in {ladder}:\n")
        note(f'early_stop = "{out}"')


@app.command()
def gate(
    streams: Annotated[Path, typer.Argument(help="JSONL of stream, text, answer and context.")],
    alpha: Alpha = 0.05,
    delta: Delta = 0.1,
    drift: Annotated[float, typer.Option(help="Amount subtracted from each score.")] = 0.4,
    refresh_events: Annotated[
        int, typer.Option(help="Greatest age of a held answer, in events.")
    ] = 100,
    refresh_s: Annotated[
        float | None, typer.Option(help="Greatest age of a held answer, in seconds.")
    ] = None,
    seed: Seed = 0,
    out: Annotated[Path | None, out("Folder for the gate.")] = None,
    json: Json = False,
) -> None:
    """Fit a gate for text streams, and certify how often its held answers are wrong.

    Exit status 3 says that nothing could be certified.
    """
    from suffice.cli.output import note, print_json, say, stages
    from suffice.selective.decoder import GateSettings
    from suffice.selective.gate import THRESHOLDS, fit_gate, read_streams, save_gate

    if out is not None:
        check_folder(out)
    settings = GateSettings(
        threshold=float(THRESHOLDS[0]),
        drift=drift,
        refresh_events=refresh_events,
        refresh_s=refresh_s,
    )
    alpha, delta = share("alpha", alpha), share("delta", delta)
    with stages() as stage:
        stage("fitting the gate")
        labelled = read_streams(_read(streams).splitlines())
        learned = fit_gate(labelled, alpha=alpha, delta=delta, settings=settings, seed=seed)
    print_json("latent gate", learned.file) if json else say(describe_gate(learned))
    if not learned.calibration.certified:
        note("nothing was certified: allow a larger alpha, or give more streams")
        raise typer.Exit(CertificateError.exit_status)
    if out is not None:
        save_gate(out, learned)
        note(f"wrote the gate to {out}; use it with: suffice stream EVENTS --gate {out}")


@app.command()
def watch(
    folder: Annotated[Path, typer.Argument(help="Folder of a rung, a gate or stopping rules.")],
    audits: Annotated[
        Path, typer.Argument(help="Trials, labelled streams or traces of a random part of traffic.")
    ],
    json: Json = False,
) -> None:
    """Audit a rung, a gate or stopping rules on fresh labels; an alarm ends the certificate.

    Exit status 3 says that the alarm has fallen.
    """
    from suffice.bench.traces import read_traces
    from suffice.cli.output import note, print_json, say
    from suffice.early_stop.rules_folder import RULES, watch_rules
    from suffice.latent.rung_folder import RUNG, watch_rung
    from suffice.selective.gate import GATE, read_streams, watch_gate
    from suffice.trials.importers import read_trials
    from suffice.types import ZeroCost

    if (folder / RUNG).exists():  # no cost is looked at
        state = watch_rung(folder, read_trials(audits, zero_cost=ZeroCost.FREE))
    elif (folder / GATE).exists():
        state = watch_gate(folder, read_streams(_read(audits).splitlines()))
    elif (folder / RULES).exists():
        state = watch_rules(folder, read_traces(audits))
    else:
        raise InputError(
            f"{folder} holds no rung, gate or stopping rules",
            hint="name a folder that suffice latent fit, gate or stop wrote",
        )
    monitor = state.monitor
    if json:
        print_json("latent watch", monitor)
    else:
        say(
            f"{monitor.audits:,} audits, {monitor.losses:g} lost; evidence against "
            f"alpha {monitor.alpha:g}: {monitor.wealth:.3g} of {1.0 / monitor.delta:.3g}"
        )
    if state.alarm:
        note(f"ALARM: {folder} is refused from now on; fit and certify again on traffic since then")
        raise typer.Exit(CertificateError.exit_status)


def describe_rung(learned: "LearnedRung") -> str:
    """Describe whether the target can be met at all, and what was certified."""
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
    """Describe the promise of stopping early, and its saving on the reporting traces."""
    figures = learned.figures
    if figures is None:
        return "no rule saves any output token on the fitting traces: the probes cost what they end"
    if figures.usd_ratio is None:
        dollars = "in dollars: not checked, because the rung has no price"
    elif figures.usd_ratio <= 1:
        dollars = f"in dollars: {show_share(1 - figures.usd_ratio)} saved at the price of the rung"
    else:
        dollars = (
            f"WARNING: in dollars it costs {figures.usd_ratio:.2f} times the uncut answer at the "
            "rung's price: each piece and each probe reads the prompt again; leave it off, or "
            "state what cached input costs (cache_read_usd_per_mtok) where the engine keeps "
            "prefixes"
        )
    report = (
        f"on {learned.rows['report']:,} other traces: {show_share(figures.stopped)} stopped early, "
        f"{show_share(figures.saving_tokens)} of output tokens saved, after "
        f"{show_share(figures.probe_tokens)} spent on probes; {show_share(figures.risk)} lost of "
        f"a quality of {show_share(learned.quality)}; {figures.input_ratio:.1f} times the input "
        "tokens, most of them in the engine's cache if it keeps prefixes\n"
        f"{dollars}"
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


def describe_gate(learned: "CertifiedGate") -> str:
    """Describe the promise of a gate, and its decodes on the reporting streams."""
    file = learned.file
    if not learned.calibration.certified:
        return f"NOT certified at alpha {file.alpha:g}: these streams certify {file.bound:.4f}"
    return (
        f"certified: with {show_share(1 - file.delta)} confidence a stream like these holds a "
        f"wrong answer for at most {show_share(file.alpha)} of its events, on average over "
        f"streams; each counts once, however long ({file.streams['certify']:,} certified it)\n"
        f"on {file.streams['report']:,} other streams: {show_share(1 - file.held_per_stream)} "
        f"wrong on average over streams, {show_share(1 - file.held_per_event)} over all their "
        f"events, with {file.decodes_per_event:.3f} decodes an event; the decoder counts as right"
    )


def _section(folder: Path, decision_s: float, *, usd_per_hour: float | None) -> str:
    """Return the sections of `suffice.toml` that put the rung into a ladder."""
    import msgspec

    name, path = (msgspec.json.encode(s).decode() for s in (folder.resolve().name, str(folder)))
    key = name[1:-1] if re.fullmatch(r'"[\w-]+"', name, re.ASCII) else name
    text = (
        f'[engine.{key}]\nkind = "latent"\nmodel_path = {path}\n\n'
        f'[[ladder]]\nname = {name}\nengine = {name}\nmodel = "latent"\nvector = "paradigm"\n'
    )
    if usd_per_hour is None:
        return text + "# without a price its charges stay unknown: see --core-usd-per-hour\n"
    usd = usd_per_hour / 3600 * decision_s * 1000
    return (
        f"{text}price = {name}\n\n[price.{key}]\ninput_usd_per_mtok = 0\n"
        f"output_usd_per_mtok = 0\nusd_per_thousand_requests = {usd:.3g}\n"
        f'source = "{show_seconds(decision_s)} a decision, one core at {usd_per_hour:g} dollars '
        'an hour"\n'
    )


def _read_answers(path: Path | None) -> tuple[str, ...]:
    if path is None:
        return ()
    lines = (line.strip() for line in _read(path).decode("utf-8", "replace").splitlines())
    return tuple(line for line in lines if line)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", hint="check the path") from error
