"""The student and one of its teachers in one graph, each with its own front end.

What the fully convolutional tagger learned from a million songs is worth more heard than imitated:
where the student knows GTZAN better, the FCN errs less on recordings from elsewhere. Without the
filters that say nothing it is small and quick enough to ship. The heads are averaged in the log
domain. Those that know GTZAN best may fall silent where a recording sounds above GTZAN's band,
and so is from elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tonearm.errors import UsageError
from tonearm.features.logmel import FRONT_ENDS
from tonearm.library.head import layer_of
from tonearm.library.tag_words import spelling_of
from tonearm.models.layers import rectangle, required
from tonearm.models.network import GenreNetwork, Outputs
from tonearm.models.student import Student
from tonearm.training.augment import band_centres
from tonearm.training.conditions import mel_power
from tonearm.training.fcn import BENEATH, EMBEDDING, TAGS, Fcn, read_maps
from tonearm.training.probe import FURTHEST, LEAST_SPREAD, fit
from tonearm.training.pruning import pruned
from tonearm.training.recipe import DuetSettings
from tonearm.training.teachers import STUDENT_FRONT_END

SECOND_FRONT_END = FRONT_ENDS["htk32k"]  # what the FCN hears, from the student's sample rate
# A window is repeated to this length: the FCN's pools leave a moment of every 320 frames, and the
# maximum over three is as good as over the five of a whole clip.
REPEATED_FRAMES = 960
# Windows are brought to this mean power of a mel band, that of GTZAN's median clip, by so much at
# most: how loud a recording was mastered says nothing of its genre.
LEVEL_DB = 10.0
MOST_GAIN_DB = 20.0

# GTZAN's recordings end at 11 kHz: beyond this frequency none of them sounds. A window is of full
# band where the power beyond is but so much below that of all bands, and dull where it is so much
# below. In between it is something of both.
BEYOND_HZ = 13_000.0
FULL_BAND_DB, DULL_DB = -10.0, -20.0

HEARD = EMBEDDING + BENEATH  # numbers the FCN gives for a window, the embedding first

Floats = NDArray[np.float32]


class _Standardising(nn.Module):
    """What reads features by how they are spread: each in standard deviations from its mean."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self.mean: Tensor
        self.deviation: Tensor

    def standard(self, features: Tensor) -> Tensor:
        """Standardise float32[batch, features]; what is far out counts as less far."""
        return ((features - self.mean) / self.deviation).clamp(-FURTHEST, FURTHEST)


class LinearHead(_Standardising):
    """A linear classifier of genres: log-probabilities from standardised features.

    Parameters
    ----------
    features
        It reads so many of those it is given, from the first.
    classes
        Genres.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__(features)
        self.linear = nn.Linear(features, classes)

    def forward(self, features: Tensor) -> Tensor:
        """Map float32[batch, features or more] to float32[batch, classes]."""
        own = features[:, : len(self.mean)]
        log_probabilities: Tensor = self.linear(self.standard(own)).log_softmax(dim=1)
        return log_probabilities

    def fit(self, features: Floats, truth: NDArray[np.int64], regularisation: float) -> None:
        """Fit class-balanced logistic regression.

        Parameters
        ----------
        features
            float32[clips, features or more].
        truth
            int[clips], columns of the head; a genre without clips stays improbable.
        regularisation
            Its inverse strength, C.
        """
        mean, deviation, classifier = fit(features[:, : len(self.mean)], truth, regularisation)
        self.mean, self.deviation = torch.from_numpy(mean), torch.from_numpy(deviation)
        weights, biases = layer_of(classifier, self.linear.out_features)
        self.linear.weight.data = torch.from_numpy(weights.astype(np.float32))
        self.linear.bias.data = torch.from_numpy(biases.astype(np.float32))


class Denoiser(_Standardising):
    """Puts in place of what was heard amid noise what would have been heard without.

    What it adds is small where there is no noise: see `tonearm.training.denoise`, where it learns.

    Parameters
    ----------
    features
        Numbers heard of a window.
    hidden
        Numbers that its correction goes through.
    dropout
        Probability of dropping one of the numbers heard, in training.
    """

    def __init__(self, features: int, hidden: int, dropout: float) -> None:
        super().__init__(features)
        last = nn.Linear(hidden, features)
        nn.init.zeros_(last.weight)  # so it begins by changing nothing
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(features, hidden), nn.ReLU(), last
        )

    def forward(self, heard: Tensor) -> Tensor:
        """Map float32[batch, features] to the same without noise."""
        return heard + self.deviation * self.correction(heard)

    def correction(self, heard: Tensor) -> Tensor:
        """Give what it adds, in standard deviations."""
        corrected: Tensor = self.network(self.standard(heard))
        return corrected

    def scale_to(self, heard: Tensor) -> None:
        """Standardise by float32[windows, features]."""
        self.mean = heard.mean(dim=0)
        self.deviation = heard.std(dim=0).clamp(min=LEAST_SPREAD)


class TagHead(nn.Module):
    """A genre head that no labelled clip taught: the FCN's last.fm tags.

    A genre is as likely as the likeliest of the tags that are it or a kind of it. Of a genre that
    no tag names it says nothing: the mean of what it says of the others.

    Parameters
    ----------
    labels
        The genres. The head is `of_use` where tags name two of them or more.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__()
        tags = [tags_of(label) for label in labels]
        named = [genre for genre, own in enumerate(tags) if own]
        self.of_use = tags_are_of_use(labels)
        places = [named.index(genre) if own else len(named) for genre, own in enumerate(tags)]
        numbers = rectangle([tags[genre] for genre in named] or [[0]])
        self.register_buffer("tags", numbers, persistent=False)
        self.register_buffer("places", torch.tensor(places), persistent=False)
        self.tags: Tensor
        self.places: Tensor

    def forward(self, logits: Tensor) -> Tensor:
        """Map the FCN's float32[batch, 50] to float32[batch, classes], log-probabilities."""
        # log(sigmoid(x)) written so that ONNX Runtime does not round very small ones to log(0).
        of_tags = -functional.softplus(-logits)
        named = of_tags[:, self.tags].amax(dim=2)
        return torch.cat([named, named.mean(dim=1, keepdim=True)], dim=1)[:, self.places]


def tags_of(genre: str) -> list[int]:
    """Give the numbers of the FCN's tags that are a genre or, by their names, a kind of it.

    >>> [[TAGS[number] for number in tags_of(genre)] for genre in ("Hip Hop", "metal", "opera")]
    [['hip-hop'], ['metal', 'heavy metal'], []]
    """
    wanted = spelling_of(genre)
    return [
        number
        for number, tag in enumerate(TAGS)
        if wanted in (spelling_of(tag), spelling_of(tag.split()[-1]))
    ]


def tags_are_of_use(genres: Sequence[str]) -> bool:
    """Say whether tags name two of the genres or more."""
    return sum(bool(tags_of(genre)) for genre in genres) > 1


def require_heads(settings: DuetSettings, audioset_weight: float, labels: Sequence[str]) -> None:
    """Check that some head has a weight on every recording.

    Raises
    ------
    UsageError
        If none is left, or none on recordings of full band.
    """
    at_home = settings.student + settings.fcn
    elsewhere = settings.fcn_embedding + settings.student * audioset_weight
    elsewhere += settings.fcn_tags if tags_are_of_use(labels) else 0.0
    if not (at_home or elsewhere):
        raise UsageError(
            "no head is left: duet.fcn_tags is the only weight above 0, and last.fm's tags "
            f"name fewer than two of {', '.join(labels)}"
        )
    if not (settings.full_band or elsewhere):
        raise UsageError(
            "no head is left on recordings of full band: set duet.full_band or "
            "duet.fcn_embedding above 0"
        )


class Duet(GenreNetwork):
    """Genre heads that judge a window together: two of the student, and three on the FCN.

    The student's are its genre head's and AudioSet's. Two of those on the FCN are linear: one reads
    its embedding, which is most at home outside GTZAN, the other also what lies beneath it, which
    tells GTZAN's genres best. The third is what the FCN was published to say, its tags. The genre
    head and the head on what lies beneath keep `DuetSettings.full_band` of their weights in
    windows of full band.

    Parameters
    ----------
    student
        The AudioSet head weighs its `audioset_weight` beside 1 for the genre head.
    fcn
        As published, in evaluation mode; it is pruned.
    settings
        What the heads weigh; that of tags is left out where it is of no use.
    labels
        The genres' names in the order of the student's logits.
    """

    def __init__(
        self, student: Student, fcn: Fcn, settings: DuetSettings, labels: Sequence[str]
    ) -> None:
        require_heads(settings, student.audioset_weight, labels)
        super().__init__(student.embedding_size + HEARD, student.num_classes, 0.0)
        self.student = student
        # One window at a time takes a fifth of the time so, and less than one of many.
        self.fcn: Fcn = pruned(fcn).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.settings = settings
        self.says_music = student.says_music
        self.classifier = nn.Sequential()  # the heads take its place
        self.on_embedding = LinearHead(EMBEDDING, student.num_classes)
        self.on_all = LinearHead(HEARD, student.num_classes)
        self.by_tags = TagHead(labels)
        self.denoiser: Denoiser | None = None  # until one has been taught
        beyond = np.flatnonzero(band_centres(STUDENT_FRONT_END) > BEYOND_HZ)
        self.first_beyond = int(beyond[0])

    def both(self, logmel: Tensor | None, second_logmel: Tensor | None = None) -> Outputs:
        """Return logits, embedding, and the student's logit of music.

        The embedding is the student's, then the FCN's, then what lies beneath that: three parts,
        which whoever learns from it may weigh alike (`tonearm.library.head`). It is as it was
        heard; the genre heads read it after any denoiser.

        Parameters
        ----------
        logmel
            float32[batch, frames, 128] of the student's front end.
        second_logmel
            float32[batch, frames, 96] of `SECOND_FRONT_END`, the same window.
        """
        if second_logmel is None:
            raise ValueError("a duet needs the frames of both front ends")
        frames = required(logmel)
        first = self.student.judge(frames)
        of_fcn = self.hear(second_logmel)
        own, heard = first.embedding, of_fcn
        if self.denoiser is not None:
            cleaned = self.denoiser(torch.cat([own, heard], dim=1))
            own, heard = cleaned.split([own.shape[1], HEARD], dim=1)
        embedding = heard[:, :EMBEDDING]
        weights = self.settings
        genre = self.student.classifier(own).log_softmax(dim=1)
        at_home = [(weights.student, genre), (weights.fcn, self.on_all(heard))]
        elsewhere = [(weights.fcn_embedding, self.on_embedding(heard))]
        if self.by_tags.of_use:
            elsewhere.append((weights.fcn_tags, self.by_tags(self.fcn.dense(embedding))))
        total = _total(at_home) + _total(elsewhere)
        if first.audioset is not None:
            # Added to what the genre head says, not averaged with it: it is not in the total.
            elsewhere.append((weights.student * self.student.audioset_weight, first.audioset))
        kept: Tensor | float = 1.0
        if weights.full_band < 1:
            kept = 1 - (1 - weights.full_band) * self.full_band(frames)
        # Those that speak make up for those that do not, so that the temperature stays as fitting.
        everywhere = _total(at_home) + _total(elsewhere)
        scale = everywhere / (kept * _total(at_home) + _total(elsewhere)) / total
        logits = scale * (kept * _weighed(at_home) + _weighed(elsewhere))
        parts = [first.embedding, of_fcn[:, :EMBEDDING], of_fcn[:, EMBEDDING:]]
        return Outputs(logits, torch.cat(parts, dim=1), first.music)

    def listen(self, logmel: Tensor, second_logmel: Tensor) -> Tensor:
        """Give what is heard of windows, see `both`, before any noise is taken off.

        Returns
        -------
        float32[batch, embedding_size]: the student's embedding, then `HEARD` numbers of the FCN.
        """
        return torch.cat([self.student.embed(logmel), self.hear(second_logmel)], dim=1)

    def full_band(self, logmel: Tensor) -> Tensor:
        """Say how far windows sound where GTZAN does not: float32[batch, 1], from 0 to 1.

        What counts is what varies: the mean of the power beyond less its geometric mean in time.
        Hiss, which is steady, is of a medium, and a dull recording stays dull under it.
        """
        power = mel_power(logmel)
        beyond = power[:, :, self.first_beyond :].mean(2)
        varying = (beyond.mean(1) - beyond.log().mean(1).exp()).clamp(min=0.0)
        level = 10 * (varying / (power.mean((1, 2)) + STUDENT_FRONT_END.offset)).log10()
        share = (level - DULL_DB) / (FULL_BAND_DB - DULL_DB)
        return share.clamp(0.0, 1.0)[:, None]

    def hear(self, second_logmel: Tensor) -> Tensor:
        """Let the FCN hear float32[batch, frames, 96] of any level and length.

        Returns
        -------
        float32[batch, `HEARD`]
        """
        maps = self.lower(second_logmel)
        return torch.cat(read_maps(self.fcn.layer4, self.fcn.layer5, maps), dim=1)

    def lower(self, second_logmel: Tensor) -> Tensor:
        """Let the first layers of the FCN hear what `hear` does, see `Fcn.lower`."""
        maps: Tensor = self.fcn.lower(_repeated(_levelled(second_logmel)))
        return maps

    def fit_heads(self, heard: Floats, truth: NDArray[np.int64]) -> None:
        """Fit both heads to float32[clips, `HEARD`], see `hear_windows`, and int[clips]."""
        self.on_embedding.fit(heard, truth, self.settings.fcn_embedding_regularisation)
        self.on_all.fit(heard, truth, self.settings.fcn_regularisation)

    @torch.inference_mode()
    def hear_windows(self, windows: Sequence[Floats]) -> Floats:
        """Return what the FCN hears in a clip's float32[frames, 96] windows: the mean of `hear`."""
        heard = [self.hear(torch.from_numpy(window)[None])[0] for window in windows]
        mean: Floats = torch.stack(heard).mean(dim=0).numpy()
        return mean


def _total(said: Sequence[tuple[float, Tensor]]) -> float:
    """Sum the weights of what heads say."""
    return sum(weight for weight, _ in said)


def _weighed(said: Sequence[tuple[float, Tensor]]) -> Tensor:
    """Sum what heads say by their weights."""
    return torch.stack([weight * scores for weight, scores in said]).sum(dim=0)


def _levelled(logmel: Tensor) -> Tensor:
    """Bring each window of float32[batch, frames, mels] in decibels to the same mean power."""
    power = torch.exp(logmel * (math.log(10) / 10))
    level = power.mean((1, 2), keepdim=True).log10() * 10
    levelled: Tensor = logmel + (LEVEL_DB - level).clamp(-MOST_GAIN_DB, MOST_GAIN_DB)
    return levelled


def _repeated(logmel: Tensor) -> Tensor:
    """Repeat float32[batch, frames, mels] to `REPEATED_FRAMES`; longer ones stay as they are."""
    # Tensors, not numbers, so that the exported graph does this for any length.
    frames = torch._shape_as_tensor(logmel)[1]
    length = cast(int, torch.clamp(frames, min=REPEATED_FRAMES))
    places = torch.arange(length) % frames
    return logmel.index_select(1, places)
