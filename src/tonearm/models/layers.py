"""Building blocks that the networks share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from tonearm.errors import UsageError
from tonearm.features.spectral import dct_cosines

# Frames of the placeholder for a missing spectrogram: as many as the deepest pooling needs.
_MISSING_FRAMES = 32
# Lower bound of the variance a band is normalised by. A band with sound has a variance around 1.
_LEAST_VARIANCE = 0.01
_CEPSTRAL_COEFFICIENTS = 40  # at most, the lowest ones
# Standard deviation of the noise that training adds to standardised descriptors. A clip has the
# same ones every time it is drawn, and they would otherwise be memorised.
_DESCRIPTOR_NOISE = 0.3


class BandNorm(nn.Module):
    """Batch normalisation of every mel band, which maps the scale of any front end to about ±2.

    A band that was silent in all training recordings (above 4 kHz, if they are telephone calls)
    has a variance near 0. Normalising with it would amplify any sound in that band of a later
    recording several hundred times, so evaluation uses a variance of at least `_LEAST_VARIANCE`.

    float32[batch, frames, mels] -> the same shape.
    """

    def __init__(self, n_mels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(n_mels, affine=False)

    def forward(self, logmel: Tensor) -> Tensor:
        """Normalise every band."""
        bands = logmel.transpose(1, 2)
        if self.training:
            normalised: Tensor = self.norm(bands)
        else:
            mean, variance = self.norm.running_mean, self.norm.running_var
            assert variance is not None  # this normalisation keeps its statistics
            normalised = functional.batch_norm(
                bands, mean, variance.clamp(min=_LEAST_VARIANCE), eps=self.norm.eps
            )
        return normalised.transpose(1, 2)


class ConvBlock(nn.Module):
    """Two 3x3 convolutions with a 1x1 shortcut (He et al. 2016), then max pooling.

    float32[batch, channels_in, frames, bands] -> float32[batch, channels_out, frames', bands'].
    """

    def __init__(self, channels_in: int, channels_out: int, pool: tuple[int, int]) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out)
        )
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and pool."""
        x = functional.relu(self.convolutions(x) + self.shortcut(x))
        return functional.max_pool2d(x, self.pool)


class ConvStack(nn.Sequential):
    """A stem that reduces time to a quarter and frequency to a half, followed by blocks.

    Most of a convolutional network's cost lies in its first planes; with a quarter of the frames
    (64 ms each, from 62.5 a second) twice as many training steps fit into the same time.

    float32[batch, 1, frames, bands] -> float32[batch, widths[-1], frames', bands'].

    Parameters
    ----------
    widths
        Channels of the stem and of each block.
    pools
        (frames, bands) that each block pools over.
    """

    def __init__(self, widths: Sequence[int], pools: Sequence[tuple[int, int]]) -> None:
        stem, *rest = widths
        super().__init__(
            nn.Conv2d(1, stem, (7, 5), stride=(4, 2), padding=(3, 2), bias=False),
            nn.BatchNorm2d(stem),
            nn.ReLU(inplace=True),
            *(
                ConvBlock(channels_in, channels_out, pool)
                for channels_in, channels_out, pool in zip(widths, rest, pools, strict=False)
            ),
        )


class StatisticsPool(nn.Module):
    """Mean and standard deviation over time: the content, and how much it changes.

    float32[batch, frames, size] -> float32[batch, 2 * size].
    """

    def forward(self, x: Tensor) -> Tensor:
        """Pool over frames."""
        mean = x.mean(dim=1, keepdim=True)
        variance = (x - mean).square().mean(dim=1)
        # The square root has no finite gradient at 0, the variance of a single frame.
        return torch.cat([mean.squeeze(1), (variance + 1e-5).sqrt()], dim=1)


class CepstralStatistics(nn.Module):
    """Mean, deviation and rate of change of the cepstrum, as in MFCC statistics.

    Adjacent mel bands are highly correlated, and gradient descent takes long to find the small
    differences between them that tell genres apart. The cosine transform decorrelates the bands
    (Davis and Mermelstein 1980), so that a few hundred steps on few recordings are enough.

    float32[batch, frames, bands] -> float32[batch, size].

    Parameters
    ----------
    n_mels
        Number of bands of the input.
    """

    def __init__(self, n_mels: int) -> None:
        super().__init__()
        coefficients = min(_CEPSTRAL_COEFFICIENTS, n_mels)
        # By NumPy, as in some processes torch's first cosine is slightly off: MKL's functions are
        # if several threads call them first (https://github.com/pytorch/pytorch/issues/188792).
        transform = torch.from_numpy(dct_cosines(n_mels, coefficients)).float()
        self.register_buffer("transform", transform, persistent=False)
        self.transform: Tensor
        self.pool = StatisticsPool()
        self.size = 3 * coefficients

    def forward(self, x: Tensor) -> Tensor:
        """Transform each frame and pool over frames."""
        cepstrum = x @ self.transform
        change = (cepstrum[:, 1:] - cepstrum[:, :-1]).square().mean(dim=1)
        return torch.cat([self.pool(cepstrum), (change + 1e-6).log()], dim=1)


class AttentionPool(nn.Module):
    """Weighted mean over time, with learned weights (Bahdanau et al. 2015).

    float32[batch, frames, size] -> float32[batch, size].
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        # No bias on the score: softmax over time would cancel it.
        self.score = nn.Sequential(
            nn.Linear(size, size // 2), nn.Tanh(), nn.Linear(size // 2, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Pool over frames."""
        weights: Tensor = self.score(x).softmax(dim=1)
        return (x * weights).sum(dim=1)


class RecurrentPool(nn.Module):
    """A bidirectional GRU over a sequence of features, pooled by attention.

    float32[batch, frames, size] -> float32[batch, 2 * hidden].
    """

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.gru = nn.GRU(size, hidden, batch_first=True, bidirectional=True)
        self.pool = AttentionPool(2 * hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Read the sequence both ways and pool it."""
        pooled: Tensor = self.pool(self.gru(x)[0])
        return pooled


class DenseBlock(nn.Sequential):
    """Dropout, a linear layer, layer normalisation and ReLU."""

    def __init__(self, size_in: int, size_out: int, dropout: float) -> None:
        super().__init__(
            nn.Dropout(dropout), nn.Linear(size_in, size_out), nn.LayerNorm(size_out), nn.ReLU()
        )


class DescriptorNet(nn.Module):
    """A small multilayer perceptron over the clip descriptors, which it standardises first.

    float32[batch, descriptors], finite -> float32[batch, size].
    """

    def __init__(self, n_descriptors: int, size: int, dropout: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_descriptors))
        self.register_buffer("spread", torch.ones(n_descriptors))
        self.mean: Tensor
        self.spread: Tensor
        self.layers = nn.Sequential(
            DenseBlock(n_descriptors, size, dropout / 2), DenseBlock(size, size, dropout)
        )

    def forward(self, descriptors: Tensor) -> Tensor:
        """Standardise, clip outliers to four deviations, and run the perceptron."""
        standard = ((descriptors - self.mean) / self.spread).clamp(-4.0, 4.0)
        if self.training:
            standard = standard + _DESCRIPTOR_NOISE * torch.randn_like(standard)
        features: Tensor = self.layers(standard)
        return features

    @torch.no_grad()
    def standardise(self, descriptors: Tensor) -> None:
        """Set the mean and standard deviation from float32[tracks, descriptors].

        Rows with NaN (tracks without descriptors) are ignored; a descriptor that does not vary is
        only centred.
        """
        rows = descriptors[descriptors.isfinite().all(dim=1)]
        if len(rows) == 0:
            return
        spread = rows.std(dim=0, correction=0)
        self.mean.copy_(rows.mean(dim=0))
        self.spread.copy_(torch.where(spread > 1e-6, spread, torch.ones_like(spread)))


class GatedFusion(nn.Module):
    """Join two feature vectors by a gate that weights them per entry (GMU, Arevalo et al. 2017).

    Either may be missing in any example; only the other one then passes the gate. In training, a
    random one of the two is dropped from some examples, so that each learns to work alone.

    Parameters
    ----------
    size_a, size_b
        Lengths of the two inputs.
    size
        Length of the joined vector.
    drop
        Probability, for each input, that training drops it from an example. At most 0.5: above
        that, some examples would have to lose both.

    Raises
    ------
    UsageError
        If `drop` is out of range.
    """

    def __init__(self, size_a: int, size_b: int, size: int, drop: float) -> None:
        super().__init__()
        if not 0 <= drop <= 0.5:
            raise UsageError(f"modality_dropout must be from 0 to 0.5, got {drop}")
        self.a = nn.Linear(size_a, size)
        self.b = nn.Linear(size_b, size)
        self.gate = nn.Linear(size_a + size_b, size)
        self.drop = drop

    def forward(self, a: Tensor, b: Tensor, has_a: Tensor, has_b: Tensor) -> Tensor:
        """Join float32[batch, size_a] and float32[batch, size_b] to float32[batch, size].

        `has_a` and `has_b`, float32[batch, 1], are 1 where the input is present and 0 where it is
        missing; with both missing the result depends on neither input.
        """
        if self.training and self.drop > 0:
            has_a, has_b = self._drop(has_a, has_b)
        a, b = a * has_a, b * has_b
        gate = torch.sigmoid(self.gate(torch.cat([a, b], dim=1)))
        weight_a = gate * has_a * has_b + has_a * (1 - has_b)
        weight_b = (1 - gate) * has_a * has_b + has_b * (1 - has_a)
        return weight_a * torch.tanh(self.a(a)) + weight_b * torch.tanh(self.b(b))

    def _drop(self, has_a: Tensor, has_b: Tensor) -> tuple[Tensor, Tensor]:
        chance = torch.rand_like(has_a)
        complete = has_a * has_b  # never take an example's only input
        without_a = complete * (chance < self.drop)
        without_b = complete * (chance > 1 - self.drop)
        return has_a - without_a, has_b - without_b


def required(logmel: Tensor | None) -> Tensor:
    """Return the log-mel frames of a network that requires them.

    Raises
    ------
    UsageError
        If they are None.
    """
    if logmel is None:
        raise UsageError("the network needs log-mel frames, got None")
    return logmel


def log_sigmoid(logits: Tensor) -> Tensor:
    """Return log(sigmoid(x)), written so that ONNX Runtime does not round tiny values to log(0)."""
    return -functional.softplus(-logits)


def rectangle(rows: Sequence[Sequence[int]]) -> Tensor:
    """Pad rows to equal length by repeating their first number: int64[rows, longest]."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[row[0]] * (longest - len(row))] for row in rows])


def fill_missing(
    logmel: Tensor | None, descriptors: Tensor | None, n_mels: int, n_descriptors: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Replace missing inputs by zeros, and return which examples have them.

    An input is missing from an example if it contains NaN, and from all examples if it is None.

    Returns
    -------
    logmel : float32[batch, frames, n_mels], finite.
    has_logmel : float32[batch, 1], 1 where present and 0 where missing.
    descriptors : float32[batch, n_descriptors], finite.
    has_descriptors : float32[batch, 1], 1 where present and 0 where missing.

    Raises
    ------
    UsageError
        If both are None.
    """
    if logmel is None:
        if descriptors is None:
            raise UsageError("the network needs log-mel frames or descriptors, got neither")
        logmel = descriptors.new_full((len(descriptors), _MISSING_FRAMES, n_mels), torch.nan)
    if descriptors is None:
        descriptors = logmel.new_full((logmel.shape[0], n_descriptors), torch.nan)
    no_logmel = torch.isnan(logmel)
    no_descriptors = torch.isnan(descriptors)
    return (
        torch.where(no_logmel, torch.zeros_like(logmel), logmel),
        1 - no_logmel.flatten(1).any(dim=1, keepdim=True).float(),
        torch.where(no_descriptors, torch.zeros_like(descriptors), descriptors),
        1 - no_descriptors.any(dim=1, keepdim=True).float(),
    )
