"""What a network that takes the spectrogram and descriptors knows when one of them is missing.

    python benchmarks/missing_input.py --models 'seed{seed}/fold{fold}.onnx' --seeds 3 --data gtzan

Every held-out clip is classified three times by the network of its fold: by both inputs, without
its descriptors and without its spectrogram. Writes `missing_input.md`. Predictions are kept under
--work.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

import foldwise
from tonearm.bundle import Bundle, Outputs
from tonearm.errors import UsageError
from tonearm.evaluation.compare import compare

Floats = NDArray[np.float32]


class WithoutDescriptors(Bundle):
    """A model that is told no descriptors."""

    def run(self, frames: Sequence[Floats], descriptors: Floats | None = None) -> Outputs:
        """Score windows by their frames alone."""
        return super().run(frames)


class WithoutSpectrogram(Bundle):
    """A model that is shown no frames."""

    def run(self, frames: Sequence[Floats], descriptors: Floats | None = None) -> Outputs:
        """Score windows by their descriptors alone."""
        return super().run([np.full_like(part, np.nan) for part in frames], descriptors)


KINDS: dict[str, type[Bundle]] = {
    "both": Bundle,
    "spectrogram": WithoutDescriptors,
    "descriptors": WithoutSpectrogram,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    foldwise.add_arguments(parser, "runs/missing_input")
    args = parser.parse_args()
    rounds = foldwise.rounds(args)
    first = Bundle.load(rounds[0].models[0])
    if not first.metadata.descriptors:
        raise UsageError(f"{first.path}: takes no descriptors")
    runs = {
        name: foldwise.over_seeds(
            rounds,
            lambda round_, name=name, kind=kind: foldwise.fold_predictions(
                name, round_.models, round_.clips, round_.work / f"{name}.csv", kind
            ),
        )
        for name, kind in KINDS.items()
    }
    page = rendered(first.metadata.name, compare(runs).to_markdown(), args.seeds)
    foldwise.write_page(args.out / "missing_input.md", page)


def rendered(name: str, table: str, seeds: int) -> str:
    return f"""# A missing input

`{name}` of [the ladder](gtzan.md), trained anew for this table, so that single answers
differ; seeds: {seeds}. Each clip is classified by the network of the fold that held it out: by its
spectrogram and its descriptors, and by one of them alone, with the other declared as missing (NaN).
In training, either is withheld from some examples.

{table}
## Reproduce

```
TONEARM_PRETRAINED=WEIGHTS tonearm benchmark gtzan --data gtzan --seeds {seeds} --systems {name}
# link its networks as docs/results-explained.md says
python benchmarks/missing_input.py --models 'seed{{seed}}/fold{{fold}}.onnx' --seeds {seeds} \\
  --data gtzan
```
"""


if __name__ == "__main__":
    main()
