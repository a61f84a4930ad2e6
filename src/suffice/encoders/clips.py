"""Parts of video files as vectors: a still, or the mean of a few frames of a clip."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from suffice.encoders.base import Vectors
from suffice.errors import InputError, MissingExtra

SIZE = 224  # pixels, what the image encoder takes
FRAMES = 4  # of a clip, evenly spaced


class ImageEncoder(Protocol):
    """Turns square images into vectors."""

    dim: int
    fingerprint: str

    def embed(self, images: NDArray[np.uint8]) -> Vectors:
        """Return one vector an image; `images` is (count, 224, 224, 3), RGB."""
        ...


class Clip(Struct, frozen=True, kw_only=True):
    """A part of a video file, in seconds; a still where it ends when it starts."""

    video: str
    start_s: float
    end_s: float

    @property
    def times_s(self) -> tuple[float, ...]:
        """The times of the frames that stand for it, each in the middle of its part."""
        if self.end_s <= self.start_s:
            return (self.start_s,)
        length = (self.end_s - self.start_s) / FRAMES
        return tuple(self.start_s + (part + 0.5) * length for part in range(FRAMES))


class ClipEncoder:
    """Embeds clips: the mean of the image vectors of their frames; needs OpenCV."""

    def __init__(self, images: ImageEncoder) -> None:
        self._images = images
        self.dim, self.fingerprint = images.dim, f"{images.fingerprint}, {FRAMES} frames a clip"

    def embed(self, clips: Sequence[Clip]) -> Vectors:
        """Return one vector a clip, shape (clips, dim); raises InputError for a broken video."""
        means = [self._images.embed(_frames(clip)).mean(axis=0) for clip in clips]
        return np.array(means, np.float32).reshape(len(clips), self.dim)


def square(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the middle square of an image of any size, scaled to (224, 224, 3)."""
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InputError(f"a frame must have shape (height, width, 3), got {image.shape}")
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    cut = image[top : top + side, left : left + side]
    cv2 = opencv()
    scaled: NDArray[np.uint8] = cv2.resize(cut, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return scaled


def opencv() -> Any:
    """Import OpenCV; raises MissingExtra."""
    try:
        import cv2
    except ImportError as error:
        raise MissingExtra(
            "reading video needs OpenCV", hint="pip install 'suffice[video]'"
        ) from error
    return cv2


def _frames(clip: Clip) -> NDArray[np.uint8]:
    """Read the frames of a clip; a time past the end of the video takes its last frame."""
    cv2 = opencv()
    if not Path(clip.video).is_file():
        raise InputError(f"there is no video {clip.video}", hint="name the folder of the videos")
    video = cv2.VideoCapture(clip.video)
    try:
        rate, count = video.get(cv2.CAP_PROP_FPS), int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        images = []
        for time_s in clip.times_s:
            video.set(cv2.CAP_PROP_POS_FRAMES, max(0, min(int(time_s * rate), count - 1)))
            ok, image = video.read()
            if not ok:
                raise InputError(
                    f"{clip.video} has no frame at {time_s:.2f} s",
                    hint="check that the file is whole",
                )
            images.append(square(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)))
        return np.stack(images)
    finally:
        video.release()
