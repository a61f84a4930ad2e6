"""Video as a stream of events: frames at a steady rate, made square for the image encoder."""

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from suffice.encoders.clips import opencv, square
from suffice.encoders.onnx import EfficientNet
from suffice.errors import InputError
from suffice.selective.embedding_change import EmbeddingChange
from suffice.types import Request

FULL_CHANGE = 0.5  # one minus cosine between frames of unrelated scenes


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """An image, (height, width, 3) RGB, and its time in the video."""

    at_s: float
    image: NDArray[np.uint8]


def read_frames(path: Path, *, frames_per_s: float = 5.0) -> Iterator[Frame]:
    """Yield the frames of a video file in order, at most `frames_per_s` each second.

    Raises InputError if the file cannot be opened, holds no frame, or ends too early.
    """
    cv2 = opencv()
    video = cv2.VideoCapture(str(path))
    try:
        rate = video.get(cv2.CAP_PROP_FPS)
        promised = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        if not video.isOpened() or not rate > 0.0:
            raise InputError(
                f"{path} cannot be read as a video", hint="check that the file is whole"
            )
        step = max(1, round(rate / frames_per_s))
        count = 0
        while True:
            ok, image = video.read()
            if not ok:
                break
            if count % step == 0:
                yield Frame(at_s=count / rate, image=cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
            count += 1
        if count == 0 or count < promised - rate:
            raise InputError(
                f"{path} breaks off after {count} of {promised} frames",
                hint="the file or its header is damaged; the answers so far are valid",
            )
    finally:
        video.release()


def frame_change(encoder: EfficientNet) -> EmbeddingChange[Frame]:
    """Return the change score of frames: the distance of their embeddings."""
    return EmbeddingChange(
        lambda frame: encoder.embed(square(frame.image)[None])[0], full=FULL_CHANGE
    )


def ask_about(frame: Frame, *, question: str) -> Request:
    """Return a request that shows the frame to a vision model."""
    cv2 = opencv()
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR))
    url = f"data:image/jpeg;base64,{b64encode(jpeg.tobytes()).decode()}"
    content = [
        {"type": "text", "text": question},
        {"type": "image_url", "image_url": {"url": url}},
    ]
    message = {"role": "user", "content": content}
    return Request(request_id=f"frame-{frame.at_s:.3f}", messages=(message,))
