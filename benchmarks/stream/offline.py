"""Selective decoding with the whole stream in hand: the reference that a live gate is held to.

Ward clustering of embeddings with temporal connectivity, one decode at the middle of each segment
(the published method, arXiv 2512.10942); with it, the input-distance rule that others use live.
"""

import numpy as np
from numpy.typing import NDArray

from suffice.errors import InputError

Vectors = NDArray[np.float32]
Places = NDArray[np.int64]


def ward_midpoints(embeddings: Vectors, *, segments: int, smooth: int = 3) -> Places:
    """Return where to decode: the middle event of each Ward segment, in order of time.

    `embeddings` has shape (events, width); a centred mean over `smooth` events comes first.
    """
    from scipy import sparse
    from sklearn.cluster import AgglomerativeClustering

    events = len(embeddings)
    check_finite(embeddings)
    if not 1 <= segments <= events:
        raise InputError(f"cannot cut {events} events into {segments} segments")
    if segments == events:
        return np.arange(events)
    chain = sparse.eye_array(events, k=1) + sparse.eye_array(events, k=-1)
    model = AgglomerativeClustering(n_clusters=segments, linkage="ward", connectivity=chain)
    labels = model.fit_predict(_smoothed(embeddings, window=smooth))
    starts = np.flatnonzero(np.diff(labels, prepend=-1))
    ends = np.append(starts[1:], events)
    middles: Places = (starts + ends - 1) // 2
    return middles


def distance_decodes(embeddings: Vectors, *, threshold: float) -> Places:
    """Return where to decode if an event is decoded when its input differs from the last decoded.

    Distance is one minus the cosine; `embeddings` are unit vectors.
    """
    check_finite(embeddings)
    places = [0]
    for event in range(1, len(embeddings)):
        if 1.0 - float(embeddings[event] @ embeddings[places[-1]]) > threshold:
            places.append(event)
    return np.array(places)


def uniform_decodes(events: int, *, rate: float, phase: float = 0.0) -> Places:
    """Return evenly spaced decodes and the first event; `rate` in (0, 1], `phase` in [0, 1).

    `phase` moves the even spacing: a rate that beats with the stream's own rhythm is averaged out
    by giving every stream another phase.
    """
    spaced = np.floor(np.arange(phase / rate, events, 1.0 / rate)).astype(np.int64)
    return np.union1d([0], spaced)


def held_after(places: Places, *, events: int) -> Places:
    """Return for each event the decode whose answer it carries: the last one up to it."""
    return places[np.clip(np.searchsorted(places, np.arange(events), side="right") - 1, 0, None)]


def held_nearest(places: Places, *, events: int) -> Places:
    """Return for each event the decode nearest in time, as an offline method may."""
    nearest: Places = places[np.abs(np.arange(events)[:, None] - places[None]).argmin(axis=1)]
    return nearest


def check_finite(embeddings: Vectors) -> None:
    """Raise InputError if an embedding is not a number."""
    if not np.isfinite(embeddings).all():
        raise InputError(
            "an embedding is not finite", hint="look for empty or unreadable input and leave it out"
        )


def _smoothed(embeddings: Vectors, *, window: int) -> Vectors:
    padded = np.pad(embeddings, ((window // 2, window - 1 - window // 2), (0, 0)), mode="edge")
    sums = np.cumsum(np.pad(padded, ((1, 0), (0, 0))), axis=0, dtype=np.float64)
    return ((sums[window:] - sums[:-window]) / window).astype(np.float32)
