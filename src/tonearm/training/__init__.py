"""Train networks with Lightning and export them to bundles.

>>> from tonearm.training import parse, train
>>> run = train(parse(["--config", "configs/gtzan/hybrid.yaml", "--data.path", "gtzan"]))
>>> run.metrics.f1, run.bundle
"""

from tonearm.training.experiment import Experiment, parse
from tonearm.training.run import Run, fit, train

__all__ = ["Experiment", "Run", "fit", "parse", "train"]
