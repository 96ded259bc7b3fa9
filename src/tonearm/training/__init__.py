"""Train networks with Lightning and export them to bundles.

>>> from tonearm.training import parse, train
>>> experiment = parse(["--model.name", "cnn", "--data.path", "gtzan"])
>>> run = train(experiment)  # doctest: +SKIP
>>> run.metrics.f1, run.bundle  # doctest: +SKIP
"""

from tonearm.training.experiment import Experiment, parse
from tonearm.training.run import Run, fit, train

__all__ = ["Experiment", "Run", "fit", "parse", "train"]
