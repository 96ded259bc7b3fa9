"""A map of recordings: points in the plane that are close together if they sound alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.intp]

LANDMARKS = 4000  # points laid out relative to each other; further ones are placed between them
ANCHORS = 3  # landmarks between which a further point is placed
COMPONENTS = 50  # principal components in which distances are measured
SEED = 0  # always the same, so that the same recordings give the same map

# Wang, Huang, Rudin & Shaposhnik: Understanding how dimension reduction tools work (PaCMAP),
# Journal of Machine Learning Research 22 (2021), section 5, with the settings given there except
# the number of neighbours: ten would draw the tracks of a genre together into one spot.
NEIGHBOURS, MID_NEAR, FURTHER = 5, 5, 20  # pairs per point
PHASES = (100, 100, 250)  # steps: global structure, then neighbourhoods, then near pairs only
FIRST_MID_WEIGHT, MID_WEIGHT = 1000.0, 3.0
NEAR_WEIGHTS = (2.0, 3.0, 1.0)
LEARNING_RATE, BETA1, BETA2 = 1.0, 0.9, 0.999  # parameters of Adam

# Adjustments to the finished layout, so that there is more to see than a few spots far apart.
EVENNESS = 0.5  # how far each axis is moved from distances to ranks
SPREAD_COUNT = 1500  # the most points that are pushed apart
SPREAD_GAP = 0.4  # their minimum distance, as a share of the spacing they would have on a grid
SPREAD_STEPS = 40

# How faithfulness is measured.
MOST_SIMILAR = 10  # tracks that sound most like a given one
SAMPLE = 500  # tracks

_BLOCK = 1000  # rows of distances in memory at once; fewer if they are longer than `_LONG`
_LONG = 4000  # numbers in a row


@dataclass(frozen=True)
class Faithfulness:
    """How reliable a map is.

    Attributes
    ----------
    kept
        Of the tracks that sound most like a given one, the share that is nearest to it on the map.
    nearest
        How many tracks count as sounding most like a given one.
    reach
        How many points count as nearest on the map.
    chance
        The share that a random map would keep.
    """

    kept: float
    nearest: int
    reach: int
    chance: float


def lay_out(directions: Floats) -> Floats:
    """Lay recordings out in the plane so that similar ones stay close together.

    This is PaCMAP, with full gradients, on the principal components. If there are many recordings,
    only a random subset, the landmarks, is laid out this way; each other recording is placed
    between the landmarks it resembles most. Then wide gaps are narrowed, and in small libraries
    the points are pushed apart.

    Parameters
    ----------
    directions : float32[N, E]
        Unit vectors, as returned by `tonearm.library.similarity.unit_vectors`.

    Returns
    -------
    float32[N, 2]
        From 0 to 1 along the longer side, centred along the other.
    """
    random = np.random.default_rng(SEED)
    components = _principal_components(directions, COMPONENTS)
    count = len(components)
    if count <= LANDMARKS:
        return _to_unit_square(_push_apart(_equalised(_pacmap(components, random))))
    landmark_indices = np.sort(random.choice(count, LANDMARKS, replace=False))
    landmarks = _pacmap(components[landmark_indices], random)
    points = np.empty((count, 2), np.float32)
    for first in range(0, count, _BLOCK):
        block = slice(first, first + _BLOCK)
        indices, squared = _nearest(components[block], components[landmark_indices], ANCHORS)
        weights = 1.0 / (squared + 1e-6)
        weights /= weights.sum(axis=1, keepdims=True)
        points[block] = np.einsum("nk,nkd->nd", weights, landmarks[indices])
    points[landmark_indices] = landmarks
    return _to_unit_square(_equalised(points))


def faithfulness(directions: Floats, points: Floats) -> Faithfulness:
    """Measure, on a sample of the points, what share of similar recordings is near on the map."""
    count = len(points)
    nearest = min(MOST_SIMILAR, max(count - 1, 0))
    reach = min(max(3 * nearest, count // 100), max(count - 1, 0))
    if not nearest:
        return Faithfulness(1.0, nearest, reach, 1.0)
    random = np.random.default_rng(SEED)
    sampled = random.choice(count, min(SAMPLE, count), replace=False)
    similar, _ = _nearest(directions[sampled], directions, nearest, exclude=sampled)
    near, _ = _nearest(points[sampled], points, reach, exclude=sampled)
    kept = np.mean([np.isin(a, b).mean() for a, b in zip(similar, near, strict=True)])
    return Faithfulness(float(kept), nearest, reach, reach / (count - 1))


def _principal_components(vectors: Floats, count: int) -> Floats:
    """Project vectors onto their `count` widest principal components, padded to at least two."""
    if not len(vectors):
        return np.zeros((0, 2), np.float32)
    mean = vectors.mean(axis=0)
    covariance = vectors.T @ vectors / np.float32(len(vectors)) - np.outer(mean, mean)
    _, axes = np.linalg.eigh(covariance)
    widest = axes[:, ::-1][:, :count]
    projected: Floats = vectors @ widest - mean @ widest
    missing = max(0, 2 - projected.shape[1])
    return np.pad(projected, ((0, 0), (0, missing)))


def _nearest(
    queries: Floats, vectors: Floats, count: int, exclude: Integers | None = None
) -> tuple[Integers, Floats]:
    """Find the vectors nearest to each query, in no order, and their squared distances.

    Parameters
    ----------
    exclude
        intp[Q], for each query the index of a vector to ignore: its own.

    Returns
    -------
    indices : intp[Q, count]
    squared : float32[Q, count]
    """
    norms = np.einsum("ne,ne->n", vectors, vectors)
    indices = np.empty((len(queries), count), np.intp)
    squared = np.empty((len(queries), count), np.float32)
    rows = max(1, min(_BLOCK, _BLOCK * _LONG // max(1, len(vectors))))
    for first in range(0, len(queries), rows):
        block = slice(first, first + rows)
        part = queries[block]
        distances = norms - 2.0 * (part @ vectors.T)
        if exclude is not None:
            distances[np.arange(len(part)), exclude[block]] = np.inf
        indices[block] = np.argpartition(distances, count - 1, axis=1)[:, :count]
        query_norms = np.einsum("ne,ne->n", part, part)[:, np.newaxis]
        squared[block] = np.take_along_axis(distances, indices[block], axis=1) + query_norms
    return indices, np.maximum(squared, 0.0)


def _pacmap(components: Floats, random: np.random.Generator) -> Floats:
    """Lay points out by attraction between near pairs and repulsion between others."""
    count = len(components)
    start = components[:, :2] / max(float(np.abs(components[:, :2]).max(initial=0.0)), 1e-12)
    if count <= 3:  # any three points lie in a plane
        return start
    near, _ = _nearest(components, components, min(NEIGHBOURS, count - 1), np.arange(count))
    mid = _mid_near(components, random)
    far = random.integers(count, size=(count, FURTHER))
    points = start * 0.01
    momentum, second_moment = np.zeros_like(points), np.zeros_like(points)
    for step in range(sum(PHASES)):
        near_weight, mid_weight = _weights(step)
        gradient = _gradient(points, near, 10.0 * near_weight, 10.0)
        gradient += _gradient(points, far, -1.0, 1.0)
        if mid_weight:
            gradient += _gradient(points, mid, 10_000.0 * mid_weight, 10_000.0)
        momentum += (1 - BETA1) * (gradient - momentum)
        second_moment += (1 - BETA2) * (gradient**2 - second_moment)
        rate = LEARNING_RATE * np.sqrt(1 - BETA2 ** (step + 1)) / (1 - BETA1 ** (step + 1))
        points -= rate * momentum / (np.sqrt(second_moment) + 1e-7)
    return points


def _mid_near(components: Floats, random: np.random.Generator) -> Integers:
    """Draw mid-near pairs: a point with the second nearest of six random points."""
    count = len(components)
    candidates = random.integers(count, size=(count, MID_NEAR, 6))
    pairs = np.empty((count, MID_NEAR), np.intp)
    for column in range(MID_NEAR):
        others = components[candidates[:, column]]
        squared = ((others - components[:, np.newaxis]) ** 2).sum(axis=2)
        second = np.argpartition(squared, 1, axis=1)[:, 1]
        pairs[:, column] = candidates[np.arange(count), column, second]
    return pairs


def _weights(step: int) -> tuple[float, float]:
    """Return the strength of attraction of near and of mid-near pairs at a step."""
    if step < PHASES[0]:
        done = step / PHASES[0]
        return NEAR_WEIGHTS[0], (1 - done) * FIRST_MID_WEIGHT + done * MID_WEIGHT
    if step < PHASES[0] + PHASES[1]:
        return NEAR_WEIGHTS[1], MID_WEIGHT
    return NEAR_WEIGHTS[2], 0.0


def _gradient(points: Floats, pairs: Integers, strength: float, softness: float) -> Floats:
    """Return the gradient of ``-strength / (softness + d)``, summed over pairs.

    Here d = 1 + distance squared. With equal strength and softness, this is the gradient of the
    paper's ``d / (softness + d)``.
    """
    differences = points[:, np.newaxis] - points[pairs]
    d = 1.0 + (differences**2).sum(axis=2, keepdims=True)
    return _sum_forces(differences * (2.0 * strength / (softness + d) ** 2), pairs)


def _sum_forces(forces: Floats, pairs: Integers) -> Floats:
    """Sum forces float32[N, K, 2] over the pairs' first points, minus those over the second.

    The force on a point that was paired with itself is zero, as the two cancel.
    """
    second = [
        np.bincount(pairs.ravel(), forces[..., axis].ravel(), len(forces)) for axis in range(2)
    ]
    total: Floats = (forces.sum(axis=1) - np.stack(second, axis=1)).astype(np.float32)
    return total


def _equalised(points: Floats) -> Floats:
    """Move the points towards their ranks on each axis: gaps and crowds shrink, the order stays."""
    if not len(points):
        return points
    ranks = points.argsort(axis=0, kind="stable").argsort(axis=0) / max(1, len(points) - 1)
    extent = np.maximum(np.ptp(points, axis=0), 1e-12)
    shares = (points - points.min(axis=0)) / extent
    equalised: Floats = ((1 - EVENNESS) * shares + EVENNESS * ranks).astype(np.float32)
    return equalised


def _push_apart(points: Floats) -> Floats:
    """Push apart points that are too close together, if there are few points."""
    count = len(points)
    if not 1 < count <= SPREAD_COUNT:
        return points
    gap = SPREAD_GAP / np.sqrt(count)
    for _ in range(SPREAD_STEPS):
        near, squared = _nearest(points, points, min(12, count - 1), np.arange(count))
        lengths = np.sqrt(np.maximum(squared, 1e-12))[..., np.newaxis]
        differences = points[:, np.newaxis] - points[near]
        push = differences / lengths * np.maximum(0.0, gap - lengths)
        points = points + 0.25 * push.sum(axis=1)
    return points


def _to_unit_square(points: Floats) -> Floats:
    """Shift and scale points into the unit square, keeping their proportions."""
    if not len(points):
        return points
    low, high = points.min(axis=0), points.max(axis=0)
    side = max(float((high - low).max()), 1e-12)
    scaled: Floats = (points - (low + high) / 2) / side + 0.5
    return scaled
