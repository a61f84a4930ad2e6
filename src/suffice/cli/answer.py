"""Commands that answer requests and show the books."""

from pathlib import Path
from typing import Annotated

import typer

from suffice.cli.options import Alpha, Delta, JsonFlag, LadderFile, Seed


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
    from suffice.cli.output import print_answers, print_json

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
    from suffice.gateway.server import Listen, serve
    from suffice.gateway.serving import Settings

    settings = Settings(ladder=ladder, policy=policy, observe=observe, workers=workers)
    listen = Listen(host=host, port=port, ssl_certfile=ssl_certfile, ssl_keyfile=ssl_keyfile)
    serve(settings, listen)


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
    from suffice.certify.promise import Promise
    from suffice.cli.output import note, print_json, stages
    from suffice.report.gather import report_on, write_report

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
