"""The student and one of its teachers in one graph, each with its own front end.

What the fully convolutional tagger (FCN) learned from a million songs is more useful directly than
imitated: the student is better on GTZAN, but the FCN makes fewer errors on recordings from other
sources. Without its silent filters it is small and fast enough to ship. The heads are averaged in
the log domain. Those that know GTZAN best may be given less weight, or none, on recordings with
energy above GTZAN's band, as those come from other sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tonearm.errors import UsageError
from tonearm.features.logmel import FRONT_ENDS
from tonearm.library.head import linear_layer
from tonearm.library.tag_words import normalised_spelling
from tonearm.models import audioset
from tonearm.models.layers import log_sigmoid, rectangle
from tonearm.models.network import Outputs
from tonearm.models.student import Student
from tonearm.text import enumerated
from tonearm.training.fcn import BENEATH, EMBEDDING, TAGS, Fcn, read_maps
from tonearm.training.mel_power import to_power
from tonearm.training.probe import FURTHEST, LEAST_SPREAD, fit
from tonearm.training.pruning import pruned
from tonearm.training.recipe import EnsembleSettings
from tonearm.training.teachers import STUDENT_FRONT_END

SECOND_FRONT_END = FRONT_ENDS["htk32k"]  # the FCN's, from audio at the student's sample rate
# A window is repeated to this length. The FCN's pooling leaves one time step per 320 frames, and
# the maximum over three is as good as over the five of a whole clip.
REPEATED_FRAMES = 960
# Of a window as long as this, not the frames are repeated but the maps of the first two layers,
# which take most of the time and have one time step per STEP_FRAMES. A shorter one would lose too
# much, as only whole steps are repeated.
LONG_FRAMES = 600
STEP_FRAMES = 16
# Windows are scaled to this mean power per mel band, that of GTZAN's median clip, by a gain of at
# most MOST_GAIN_DB, as how loud a recording was mastered should not decide its genre.
LEVEL_DB = 10.0
MOST_GAIN_DB = 20.0

# GTZAN's recordings end at 11 kHz, so none has energy above this frequency. A window is full-band
# if its power above is at least FULL_BAND_DB relative to that of all bands, and dull if it is at
# most DULL_DB; in between, `Ensemble.full_band` interpolates.
BEYOND_HZ = 13_000.0
FULL_BAND_DB, DULL_DB = -10.0, -20.0

FCN_FEATURES = EMBEDDING + BENEATH  # number of FCN features per window, the embedding first

Floats = NDArray[np.float32]


class _Standardising(nn.Module):
    """Base of modules that standardise their input features by stored means and deviations."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self.mean: Tensor
        self.deviation: Tensor

    def standard(self, features: Tensor) -> Tensor:
        """Standardise float32[batch, features], clipped to `FURTHEST` standard deviations."""
        return ((features - self.mean) / self.deviation).clamp(-FURTHEST, FURTHEST)


class LinearHead(_Standardising):
    """A linear classifier of genres: log-probabilities from standardised features.

    Parameters
    ----------
    features
        Number of features it reads, the first of those it is given.
    classes
        Number of genres.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__(features)
        self.linear = nn.Linear(features, classes)

    def forward(self, features: Tensor) -> Tensor:
        """Map float32[batch, features or more] to float32[batch, classes]."""
        read = features[:, : len(self.mean)]
        log_probabilities: Tensor = self.linear(self.standard(read)).log_softmax(dim=1)
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
            C, the inverse strength of the regularisation.
        """
        mean, deviation, classifier = fit(features[:, : len(self.mean)], truth, regularisation)
        self.mean, self.deviation = torch.from_numpy(mean), torch.from_numpy(deviation)
        weights, biases = linear_layer(classifier, self.linear.out_features)
        self.linear.weight.data = torch.from_numpy(weights.astype(np.float32))
        self.linear.bias.data = torch.from_numpy(biases.astype(np.float32))


class Denoiser(_Standardising):
    """Predict from the features of a noisy window what they would be without noise.

    Its correction is small if there is no noise; it is trained by `tonearm.training.denoise`.

    Parameters
    ----------
    features
        Number of features of a window.
    hidden
        Size of the hidden layer.
    dropout
        Probability of dropping an input feature in training.
    """

    def __init__(self, features: int, hidden: int, dropout: float) -> None:
        super().__init__(features)
        last = nn.Linear(hidden, features)
        nn.init.zeros_(last.weight)  # so that it changes nothing at first
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(features, hidden), nn.ReLU(), last
        )

    def forward(self, features: Tensor) -> Tensor:
        """Denoise float32[batch, features]; the shape stays the same."""
        return features + self.deviation * self.correction(features)

    def correction(self, features: Tensor) -> Tensor:
        """Return the correction to the features, in standard deviations."""
        corrected: Tensor = self.network(self.standard(features))
        return corrected

    def scale_to(self, features: Tensor) -> None:
        """Set the means and deviations from float32[windows, features]."""
        self.mean = features.mean(dim=0)
        self.deviation = features.std(dim=0).clamp(min=LEAST_SPREAD)


class TagHead(nn.Module):
    """A genre head that needs no labelled clips: the FCN's last.fm tags.

    A genre is as likely as the likeliest tag that names it or a kind of it. A genre that no tag
    names gets a neutral score: the mean of the scores of the others.

    Parameters
    ----------
    labels
        The genres. The head is `of_use` if tags name at least two of them.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__()
        tags = [tags_of(label) for label in labels]
        named = [genre for genre, numbers in enumerate(tags) if numbers]
        self.of_use = tags_are_of_use(labels)
        places = [
            named.index(genre) if numbers else len(named) for genre, numbers in enumerate(tags)
        ]
        numbers = rectangle([tags[genre] for genre in named] or [[0]])
        self.register_buffer("tags", numbers, persistent=False)
        self.register_buffer("places", torch.tensor(places), persistent=False)
        self.tags: Tensor
        self.places: Tensor

    def forward(self, logits: Tensor) -> Tensor:
        """Map the FCN's float32[batch, 50] to float32[batch, classes], log-probabilities."""
        named = log_sigmoid(logits)[:, self.tags].amax(dim=2)
        return torch.cat([named, named.mean(dim=1, keepdim=True)], dim=1)[:, self.places]


def tags_of(genre: str) -> list[int]:
    """Return the indices of the FCN's tags that name a genre or, by their last word, a kind of it.

    >>> [[TAGS[number] for number in tags_of(genre)] for genre in ("Hip Hop", "metal", "opera")]
    [['hip-hop'], ['metal', 'heavy metal'], []]
    """
    name = normalised_spelling(genre)
    return [
        number
        for number, tag in enumerate(TAGS)
        if name in (normalised_spelling(tag), normalised_spelling(tag.split()[-1]))
    ]


def tags_are_of_use(genres: Sequence[str]) -> bool:
    """Check whether tags name at least two of the genres."""
    return sum(bool(tags_of(genre)) for genre in genres) > 1


def require_heads(
    settings: EnsembleSettings, audioset_weight: float, labels: Sequence[str]
) -> None:
    """Check that every recording is classified by at least one head with a weight above 0.

    Raises
    ------
    UsageError
        If no head is left, or none on full-band recordings.
    """
    specialised = settings.student + settings.fcn
    general = settings.fcn_embedding
    general += settings.student * audioset_weight if audioset.knows(labels) else 0.0
    general += settings.fcn_tags if tags_are_of_use(labels) else 0.0
    if not (specialised or general):
        raise UsageError(
            "no head is left: ensemble.fcn_tags is the only weight above 0, and last.fm's tags "
            f"name fewer than two of {enumerated(labels)}"
        )
    if not (settings.full_band or general):
        raise UsageError(
            "no head is left on recordings of full band: set ensemble.full_band or "
            "ensemble.fcn_embedding above 0"
        )


class Ensemble(nn.Module):
    """An average of genre heads: two of the student, and three on the FCN.

    The student has its genre head and the AudioSet head. Two of the heads on the FCN are linear.
    One reads its embedding, which works best outside GTZAN; the other also reads the features
    beneath it (see `Fcn`), which separate GTZAN's genres best. The third uses the tags that the
    FCN was published with. In full-band windows, the student's genre head and the head that reads
    the features beneath keep only `EnsembleSettings.full_band` of their weights.

    Parameters
    ----------
    student
        The weight of its AudioSet head is `audioset_weight`, relative to 1 for the genre head.
    fcn
        The published network, in evaluation mode; a pruned copy is used.
    settings
        Weights of the heads; the head for tags is left out if it is not `of_use`.
    labels
        The genres' names in the order of the student's logits.

    Raises
    ------
    UsageError
        As `require_heads` raises it.
    """

    def __init__(
        self, student: Student, fcn: Fcn, settings: EnsembleSettings, labels: Sequence[str]
    ) -> None:
        require_heads(settings, student.audioset_weight, labels)
        super().__init__()
        self.embedding_size = student.embedding_size + FCN_FEATURES
        self.num_classes = student.num_classes
        self.student = student
        # Channels last, a single window takes a fifth of the time, and less than one in a batch.
        self.fcn: Fcn = pruned(fcn).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.settings = settings
        self.says_music = student.says_music
        self.on_embedding = LinearHead(EMBEDDING, student.num_classes)
        self.on_all = LinearHead(FCN_FEATURES, student.num_classes)
        self.by_tags = TagHead(labels)
        self.denoiser: Denoiser | None = None  # until one has been trained
        beyond = np.flatnonzero(STUDENT_FRONT_END.band_centres > BEYOND_HZ)
        self.first_beyond = int(beyond[0])

    def forward(self, logmel: Tensor, second_logmel: Tensor) -> Tensor:
        """Return float32[batch, classes], logits; arguments as in `outputs`."""
        return self.outputs(logmel, second_logmel).logits

    def outputs(self, logmel: Tensor, second_logmel: Tensor) -> Outputs:
        """Return logits, embedding, and the student's logit of music.

        The embedding joins the student's, the FCN's, and the features beneath the FCN's: three
        parts, which `tonearm.library.head` may weight equally. It is returned before denoising,
        while the genre heads read it after the denoiser, if there is one.

        Parameters
        ----------
        logmel
            float32[batch, frames, 128] of the student's front end.
        second_logmel
            float32[batch, frames, 96] of `SECOND_FRONT_END`, for the same windows.
        """
        of_student = self.student.genre_scores(logmel)
        of_fcn = self.fcn_features(second_logmel)
        embedding, features = of_student.embedding, of_fcn
        if self.denoiser is not None:
            cleaned = self.denoiser(torch.cat([embedding, features], dim=1))
            embedding, features = cleaned.split([embedding.shape[1], FCN_FEATURES], dim=1)
        fcn_embedding = features[:, :EMBEDDING]
        weights = self.settings
        genre = self.student.classifier(embedding).log_softmax(dim=1)
        specialised = [(weights.student, genre), (weights.fcn, self.on_all(features))]
        general = [(weights.fcn_embedding, self.on_embedding(features))]
        if self.by_tags.of_use:
            general.append((weights.fcn_tags, self.by_tags(self.fcn.dense(fcn_embedding))))
        total = _total(specialised) + _total(general)
        if of_student.audioset is not None:
            # Added to the genre head's log-probabilities, not averaged, so not part of the total.
            general.append((weights.student * self.student.audioset_weight, of_student.audioset))
        kept: Tensor | float = 1.0
        if weights.full_band < 1:
            kept = 1 - (1 - weights.full_band) * self.full_band(logmel)
        # Scaled up to make up for the weight taken away, so that the temperature still fits.
        everywhere = _total(specialised) + _total(general)
        scale = everywhere / (kept * _total(specialised) + _total(general)) / total
        logits = scale * (kept * _weighted(specialised) + _weighted(general))
        parts = [of_student.embedding, of_fcn[:, :EMBEDDING], of_fcn[:, EMBEDDING:]]
        return Outputs(logits, torch.cat(parts, dim=1), of_student.music)

    def embed_windows(self, logmel: Tensor, second_logmel: Tensor) -> Tensor:
        """Return the embedding of windows before denoising; see `outputs`.

        Returns
        -------
        float32[batch, embedding_size]: the student's embedding, then `FCN_FEATURES` of the FCN.
        """
        return torch.cat([self.student.embed(logmel), self.fcn_features(second_logmel)], dim=1)

    def full_band(self, logmel: Tensor) -> Tensor:
        """Return how full-band windows are: float32[batch, 1], from 0 (dull) to 1 (full-band).

        Only varying power above `BEYOND_HZ` counts: its mean over time minus its geometric mean.
        Steady hiss comes from the medium, and does not make a dull recording full-band.
        """
        power = to_power(logmel, STUDENT_FRONT_END)
        beyond = power[:, :, self.first_beyond :].mean(2)
        varying = (beyond.mean(1) - beyond.log().mean(1).exp()).clamp(min=0.0)
        level = 10 * (varying / (power.mean((1, 2)) + STUDENT_FRONT_END.offset)).log10()
        share = (level - DULL_DB) / (FULL_BAND_DB - DULL_DB)
        return share.clamp(0.0, 1.0)[:, None]

    def fcn_features(self, second_logmel: Tensor) -> Tensor:
        """Return the FCN's features of float32[batch, frames, 96] of any level and length.

        Returns
        -------
        float32[batch, `FCN_FEATURES`]
        """
        maps = self.lower(second_logmel)
        return torch.cat(read_maps(self.fcn.layer4, self.fcn.layer5, maps), dim=1)

    def lower(self, second_logmel: Tensor) -> Tensor:
        """Return `Fcn.lower` of windows of any level and length, as `fcn_features` takes them."""
        # Tensors, not Python numbers, so that the exported graph works for any length.
        frames = torch._shape_as_tensor(second_logmel)[1]
        is_long = frames >= LONG_FRAMES
        # One more step than a long window has, so that its last one does not see it break off.
        length = torch.where(is_long, frames + STEP_FRAMES, REPEATED_FRAMES)
        steps = torch.where(is_long, frames, REPEATED_FRAMES) // STEP_FRAMES
        lowest = self.fcn.lowest(_cycled(levelled(second_logmel), frames, length))
        lowest = lowest[..., : cast(int, steps)]
        # Twice is enough for a long window. Joined, as ONNX Runtime selects along the last
        # dimension number by number, which takes as long as half of the next layer.
        enough = steps.clamp(min=REPEATED_FRAMES // STEP_FRAMES)
        lowest = torch.cat([lowest, lowest], dim=3)[..., : cast(int, enough)]
        maps: Tensor = self.fcn.layer3(lowest)
        return maps

    def fit_heads(self, features: Floats, truth: NDArray[np.int64]) -> None:
        """Fit both linear heads to `mean_fcn_features` of clips, stacked, and to int[clips]."""
        self.on_embedding.fit(features, truth, self.settings.fcn_embedding_regularisation)
        self.on_all.fit(features, truth, self.settings.fcn_regularisation)

    @torch.inference_mode()
    def mean_fcn_features(self, windows: Sequence[Floats]) -> Floats:
        """Return the mean of `fcn_features` over a clip's windows, each float32[frames, 96]."""
        features = [self.fcn_features(torch.from_numpy(window)[None])[0] for window in windows]
        mean: Floats = torch.stack(features).mean(dim=0).numpy()
        return mean


def _total(heads: Sequence[tuple[float, Tensor]]) -> float:
    """Return the sum of the heads' weights."""
    return sum(weight for weight, _ in heads)


def _weighted(heads: Sequence[tuple[float, Tensor]]) -> Tensor:
    """Return the weighted sum of the heads' scores."""
    return torch.stack([weight * scores for weight, scores in heads]).sum(dim=0)


def levelled(logmel: Tensor) -> Tensor:
    """Scale windows of `SECOND_FRONT_END`, float32[batch, frames, mels], to the same mean power."""
    power = to_power(logmel, SECOND_FRONT_END)
    level = power.mean((1, 2), keepdim=True).log10() * 10
    scaled: Tensor = logmel + (LEVEL_DB - level).clamp(-MOST_GAIN_DB, MOST_GAIN_DB)
    return scaled


def _cycled(logmel: Tensor, period: Tensor, length: Tensor) -> Tensor:
    """Return `length` frames of float32[batch, frames, mels]: the first `period`, repeated."""
    return logmel.index_select(1, torch.arange(cast(int, length)) % period)
