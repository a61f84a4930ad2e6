"""`suffice answer`: a file of requests through the certified policy."""

from pathlib import Path
from typing import Annotated

import typer

from suffice.cli.options import AllowCode, Certificate, Json, Ladder, Ledger, Seed, out
from suffice.files import check_file


def answer(
    requests: Annotated[str, typer.Argument(help="Requests: JSONL in the form of tasks.")],
    ladder: Ladder,
    ledger: Ledger,
    out: Annotated[Path, out("File for the answers, one JSON object a line.")],
    certificate: Certificate = None,
    audit: Annotated[
        float, typer.Option(help="Share of requests that every rung answers, to be scored.")
    ] = 0.0,
    seed: Seed = 0,
    store_text: Annotated[
        bool, typer.Option("--store-text", help="Prompts and answers in the ledger, for recertify.")
    ] = False,
    allow_code: AllowCode = False,
    json: Json = False,
) -> None:
    """Answer requests through the certified policy, and book every one in the ledger."""
    from suffice.batch import Batch, answer_requests
    from suffice.bench.progress import show_progress
    from suffice.cli.output import print_answers, print_json

    check_file(out)
    batch = Batch(
        requests=requests,
        ladder=ladder,
        ledger=ledger,
        out=out,
        bundle=certificate,
        audit_share=audit,
        seed=seed,
        store_text=store_text,
        allow_code=allow_code,
    )
    result = answer_requests(batch, show=show_progress)
    print_json("answer", result) if json else print_answers(result)
