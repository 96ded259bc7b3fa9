"""Stage 3 of a distillation: the last two layers of a duet's FCN learn genres.

The layers below hear stretches of the labelled clips, also as they may be played elsewhere, each
once; the last two layers and the heads on them then learn to tell the genres from that. In the
end they go half of the way back to what was published (Wortsman et al. 2022, "Robust fine-tuning
of zero-shot models"): what a million songs have taught the FCN serves recordings from elsewhere.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tonearm.datasets.storage import StoredArray
from tonearm.training.augment import Batch, crop, mix
from tonearm.training.descent import Descent
from tonearm.training.duet import SECOND_FRONT_END, Duet
from tonearm.training.experiment import AugmentSettings
from tonearm.training.fcn import read_maps
from tonearm.training.recipe import DescentSettings, Recipe

# float[frames, 96] of a clip as it is, then of the same clip as it was played otherwise.
Playings = Sequence[StoredArray]

_AS_IT_IS = AugmentSettings(stretch=0.0, transpose=0.0)


class Upper(nn.Module):
    """What learns: the last two layers of a duet's FCN, and the heads on them."""

    def __init__(self, duet: Duet) -> None:
        super().__init__()
        self.layer4, self.layer5 = duet.fcn.layer4, duet.fcn.layer5
        self.on_embedding, self.on_all = duet.on_embedding, duet.on_all

    def forward(self, maps: Tensor) -> dict[str, Tensor]:
        """Give the log-probabilities of each head, float32[batch, classes]."""
        heard = torch.cat(read_maps(self.layer4, self.layer5, maps), dim=1)
        return {"on_embedding": self.on_embedding(heard), "on_all": self.on_all(heard)}

    def groups(self, settings: DescentSettings) -> list[tuple[list[nn.Parameter], float]]:
        """Sort the parameters by their learning rate: of the FCN, of the heads."""
        layers = [*self.layer4.parameters(), *self.layer5.parameters()]
        heads = [*self.on_embedding.parameters(), *self.on_all.parameters()]
        return [(layers, settings.pretrained_lr), (heads, settings.lr)]


def refine(
    recipe: Recipe,
    duet: Duet,
    clips: Sequence[Playings],
    truth: NDArray[np.int64],
    checkpoint: Path,
    history: Path,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Teach genres to the last layers of a duet's FCN, in place.

    Parameters
    ----------
    duet
        Whose heads have been fitted; they go on from there.
    clips
        Of `SECOND_FRONT_END`, of any length.
    truth
        int[clips], columns of the heads.
    checkpoint, history
        Files to go on from after a break, and for the losses.
    tell
        Is told in one line how far it is.
    """
    settings = recipe.refinement
    upper = Upper(duet)
    published = copy.deepcopy(upper.state_dict())
    descent = Descent(
        upper, upper.groups(settings.descent), settings.steps, settings.descent, recipe.seed
    )

    @functools.cache  # heard when the first step is taken, so not at all if none is left
    def heard() -> tuple[Tensor, Tensor]:
        tell(f"refinement: hearing {settings.stretches} stretches")
        return hear_stretches(recipe, duet, clips, truth)

    def losses(step: int) -> Mapping[str, Tensor]:
        maps, genres = heard()
        rng = np.random.default_rng((recipe.seed, step))
        chosen = torch.from_numpy(rng.integers(0, len(maps), settings.batch_size))
        batch = mix(Batch(maps[chosen].float(), None, genres[chosen]), settings.mixup, rng)
        return {
            name: -(batch.target * said).sum(dim=1).mean()
            for name, said in upper(batch.logmel).items()
        }

    learned = descent.run(
        losses,
        checkpoint=checkpoint,
        history=history,
        every=recipe.checkpoint_steps,
        tell=lambda line: tell(f"refinement: {line}"),
    ).state_dict()
    for name, value in upper.state_dict().items():
        value.copy_(torch.lerp(published[name], learned[name], settings.share))
    duet.eval()


@torch.inference_mode()
def hear_stretches(
    recipe: Recipe, duet: Duet, clips: Sequence[Playings], truth: NDArray[np.int64]
) -> tuple[Tensor, Tensor]:
    """Draw stretches of clips, as many of each genre, and let the lower layers hear them.

    Returns
    -------
    What `Duet.lower` gives, float16[stretches, ...], and float32[stretches, classes], their
    smoothed labels.
    """
    settings = recipe.refinement
    rng = np.random.default_rng(recipe.seed)
    frames, longest = (
        round(seconds * SECOND_FRONT_END.frames_per_second)
        for seconds in (recipe.student.window_seconds, recipe.tuning.clip_seconds)
    )
    genres = np.unique(truth)
    drawn = genres[np.arange(settings.stretches) % len(genres)]
    classes = duet.num_classes
    labels = np.eye(classes, dtype=np.float32)[drawn]
    labels = labels * (1 - settings.smoothing) + settings.smoothing / classes
    places = {genre: np.flatnonzero(truth == genre) for genre in genres}
    # Kept small tensors between the large ones that come and go would scatter over the memory.
    maps: Tensor | None = None
    for place, genre in enumerate(drawn):  # one by one, see `Duet`
        clip = _one_playing(clips[rng.choice(places[genre])], settings.played, rng)
        stretch = crop(clip[:longest], frames, SECOND_FRONT_END, _AS_IT_IS, 0.0, rng)
        heard = duet.lower(torch.from_numpy(stretch)[np.newaxis])[0]
        if maps is None:
            maps = torch.empty((len(drawn), *heard.shape), dtype=torch.float16)
        maps[place] = heard
    assert maps is not None  # a recipe has one stretch or more
    return maps, torch.from_numpy(labels)


def _one_playing(clip: Playings, played: float, rng: np.random.Generator) -> StoredArray:
    """Choose the clip as it is, or one of the ways in which it was played."""
    other = len(clip) > 1 and rng.random() < played
    return clip[int(rng.integers(1, len(clip))) if other else 0]
