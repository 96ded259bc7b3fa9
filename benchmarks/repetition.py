"""What repeating the FCN's maps instead of its input frames costs in accuracy, and saves in time.

    TONEARM_PRETRAINED=FOLDER python benchmarks/repetition.py --data gtzan --seeds 3

Windows of ten seconds are shorter than the FCN needs, so they are repeated (`Ensemble.lower`): once
the frames were, now the maps of the first two layers are. The FCN's three heads classify the clips
of each artist-grouped fold, fitted to the other folds with frames repeated, as the shipped heads
were. No network is fine-tuned, and the student takes no part. Prints accuracy and log-loss, how
many answers change, and the CPU milliseconds of a window, the best of many alternating runs.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from foldwise import FOLDS
from pruning import session
from timing import in_turns
from tonearm import audio, datasets
from tonearm.datasets.splits import split
from tonearm.features.logmel import LogMel
from tonearm.models.student import Student
from tonearm.training.ensemble import REPEATED_FRAMES, SECOND_FRONT_END, Ensemble, levelled
from tonearm.training.fcn import EMBEDDING, load_fcn
from tonearm.training.recipe import Recipe
from tonearm.training.recipe_windows import recipe_windows

RUNS = 40

Floats = NDArray[np.float32]


class RepeatedFrames(Ensemble):
    """The ensemble with the frames of every window repeated, as it was trained."""

    def lower(self, second_logmel: Tensor) -> Tensor:
        """Return `Fcn.lower` of the repeated frames."""
        places = torch.arange(REPEATED_FRAMES) % second_logmel.shape[1]
        maps: Tensor = self.fcn.lower(levelled(second_logmel).index_select(1, places))
        return maps


class FcnFeatures(nn.Module):
    """The part of an ensemble that is timed."""

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        self.ensemble = ensemble

    def forward(self, frames: Tensor) -> Tensor:
        """Return the FCN's features."""
        return self.ensemble.fcn_features(frames)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path, help="the dataset of the folds")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="from 0 on")
    args = parser.parse_args()
    dataset = datasets.load(args.data)
    labels = dataset.labels
    recipe = Recipe()
    fcn, student = load_fcn(), Student(len(labels), labels=labels, pretrained=False)
    frames, maps = (
        kind(student, fcn, recipe.ensemble, labels).eval() for kind in (RepeatedFrames, Ensemble)
    )
    front_end = LogMel(SECOND_FRONT_END)
    features: dict[str, tuple[Floats, Floats]] = {}
    for track in dataset.tracks:
        if track.path is None or track.label is None:
            continue
        logmel = front_end(audio.read(track.path, SECOND_FRONT_END.sample_rate).samples)
        windows = list(recipe_windows(recipe, logmel, SECOND_FRONT_END))
        features[track.id] = frames.mean_fcn_features(windows), maps.mean_fcn_features(windows)
    truth, scores = [], ([], [])
    for seed in range(args.seeds):
        for fold in split(dataset, "artist-kfold", folds=FOLDS, seed=seed):
            train = [track for track in fold.train if track.id in features]
            valid = [track for track in fold.valid if track.id in features]
            frames.fit_heads(
                np.stack([features[track.id][0] for track in train]),
                np.array([labels.index(str(track.label)) for track in train]),
            )
            truth += [labels.index(str(track.label)) for track in valid]
            for number, found in enumerate(scores):
                found.append(classify(frames, [features[track.id][number] for track in valid]))
    report(np.array(truth), {"frames": scores[0], "maps": scores[1]})
    for name, best in zip(("frames", "maps"), milliseconds([frames, maps]), strict=True):
        print(f"{name:8}{best:6.1f} ms a window")


@torch.inference_mode()
def classify(ensemble: Ensemble, features: Sequence[Floats]) -> Floats:
    """Return log-probabilities from the FCN's heads, float32[clips, classes]."""
    read = torch.from_numpy(np.stack(features))
    weights = ensemble.settings
    logits = weights.fcn * ensemble.on_all(read)
    logits += weights.fcn_embedding * ensemble.on_embedding(read)
    logits += weights.fcn_tags * ensemble.by_tags(ensemble.fcn.dense(read[:, :EMBEDDING]))
    total = weights.fcn + weights.fcn_embedding + weights.fcn_tags
    log_probabilities: Floats = (logits / total).log_softmax(dim=1).numpy()
    return log_probabilities


def report(truth: NDArray[np.int64], scores: dict[str, list[Floats]]) -> None:
    """Print accuracy and log-loss, and the share of answers that differ."""
    joined = {name: np.concatenate(found) for name, found in scores.items()}
    for name, found in joined.items():
        accuracy = 100 * (found.argmax(axis=1) == truth).mean()
        loss = -found[np.arange(len(truth)), truth].mean()
        print(f"{name:8}{accuracy:6.2f} % right, log-loss {loss:.4f}")
    before, after = (found.argmax(axis=1) for found in joined.values())
    print(f"{100 * (before != after).mean():.1f} % of the answers differ")


def milliseconds(ensembles: Sequence[Ensemble]) -> list[float]:
    """Return the least CPU milliseconds each takes for the FCN's features of ten seconds."""
    window = np.random.default_rng(0).normal(-10, 15, (1, 625, 96)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        sessions = [
            session(FcnFeatures(ensemble).eval(), window, Path(folder) / f"{number}.onnx")
            for number, ensemble in enumerate(ensembles)
        ]
    jobs = [partial(each.run, None, {"frames": window}) for each in sessions]
    return [1000 * used for used in in_turns(jobs, RUNS)]


if __name__ == "__main__":
    main()
