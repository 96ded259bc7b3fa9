"""Traditional genre classifiers: scikit-learn pipelines over one row of numbers a clip."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tonearm.baselines.feature_sets import FEATURE_SETS, FeatureSet
from tonearm.errors import TonearmError, UsageError
from tonearm.extras import needs

with needs("learn"):
    from sklearn.base import clone
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

FloatArray = NDArray[np.float64]

INNER_FOLDS = 3
# Votes of trees and neighbours can be zero; their logarithm is floored here.
SMALLEST_VOTE = 1e-3
TEMPERATURES = np.geomspace(0.02, 20, 200)


@dataclass(frozen=True)
class _Method:
    """A scikit-learn classifier and the settings that the inner cross-validation chooses from."""

    build: Callable[[int], Any]
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)


_METHODS: dict[str, _Method] = {
    # One against the rest: its margins turn into honest probabilities. Scikit-learn's own
    # multi-class decision function counts votes, always about one apart, with little information.
    "svm": _Method(
        lambda seed: OneVsRestClassifier(SVC(class_weight="balanced", random_state=seed)),
        {"onevsrestclassifier__estimator__C": (0.3, 1, 3, 10)},
    ),
    "logistic": _Method(
        lambda seed: LogisticRegression(class_weight="balanced", max_iter=3000, random_state=seed),
        {"logisticregression__C": (0.01, 0.03, 0.1, 0.3)},
    ),
    # Nearest neighbours know no class weights: genres with few tracks are at a disadvantage.
    "knn": _Method(
        lambda seed: KNeighborsClassifier(weights="distance"),
        {"kneighborsclassifier__n_neighbors": (3, 5, 9, 15)},
    ),
    "forest": _Method(
        lambda seed: RandomForestClassifier(
            n_estimators=400,
            max_features="sqrt",
            class_weight="balanced_subsample",
            random_state=seed,
        )
    ),
    "boosting": _Method(
        lambda seed: HistGradientBoostingClassifier(
            max_iter=120,
            learning_rate=0.1,
            max_leaf_nodes=8,
            min_samples_leaf=5,
            class_weight="balanced",
            random_state=seed,
        )
    ),
}


def baseline_names() -> tuple[str, ...]:
    """Return the names that `create_baseline` accepts: `<feature set>-<method>`."""
    return tuple(f"{features}-{method}" for features in FEATURE_SETS for method in _METHODS)


def feature_set_of(name: str) -> FeatureSet:
    """Return the feature set of a baseline, by the baseline's name.

    Raises
    ------
    UsageError
        If there is no baseline of that name.
    """
    return FEATURE_SETS[_parts(name)[0]]


def create_baseline(name: str, seed: int = 0) -> Baseline:
    """Make an untrained baseline by its name, such as `"mfcc-svm"`.

    Raises
    ------
    UsageError
        If there is no baseline of that name.
    """
    return Baseline(_METHODS[_parts(name)[1]], seed)


class Baseline:
    """One classifier over the rows of a feature set; made by `create_baseline`.

    Missing values are replaced by the training median and every column is scaled to unit
    variance. `fit` chooses the classifier's settings by the macro F1 of an inner cross-validation
    over the training clips, grouped as they are, and turns its scores into probabilities with a
    temperature that minimises the log-loss of the same inner folds (Guo et al. 2017), which
    leaves its decisions as they are.
    """

    def __init__(self, method: _Method, seed: int) -> None:
        self._method = method
        self._seed = seed
        self._pipeline: Any = None
        self.classes: tuple[str, ...] = ()
        self.settings: dict[str, Any] = {}
        self.temperature = 1.0

    def fit(
        self, rows: NDArray[np.float32], labels: Sequence[str], groups: Sequence[str]
    ) -> Baseline:
        """Train on clips.

        Parameters
        ----------
        rows
            float32[N, D] as the feature set gives them. Rows without a single finite value (clips
            that could not be decoded) are left out.
        labels
            N labels, of two classes at least.
        groups
            N keys; clips of one key (an artist) stay together in the inner cross-validation.

        Raises
        ------
        TonearmError
            If fewer than two classes are left to learn.
        """
        decoded = np.isfinite(rows).any(axis=1)
        clips = _finite(rows)[decoded]
        truth = np.asarray(labels)[decoded]
        keys = np.asarray(groups)[decoded]
        self.classes = tuple(np.unique(truth).tolist())
        if not self.classes:
            raise TonearmError("a baseline has nothing to learn from: no track could be decoded")
        if len(self.classes) < 2:
            raise TonearmError(f"a baseline needs two classes to learn, not {len(self.classes)}")
        # A column that is missing throughout is kept (as zeros), so that widths stay the same.
        imputer = SimpleImputer(strategy="median", keep_empty_features=True)
        pipeline = make_pipeline(imputer, StandardScaler(), self._method.build(self._seed))
        folds = list(_inner_folds(truth, keys, self._seed))
        if self._method.grid and folds:
            search = GridSearchCV(pipeline, self._method.grid, scoring="f1_macro", cv=folds)
            search.fit(clips, truth)
            self.settings = {key.split("__")[-1]: v for key, v in search.best_params_.items()}
            pipeline = clone(search.best_estimator_)
        if folds:
            scores = [
                self._scores(clone(pipeline).fit(clips[a], truth[a]), clips[b]) for a, b in folds
            ]
            held_out = np.concatenate([b for _, b in folds])
            column = np.searchsorted(self.classes, truth[held_out])
            self.temperature = _best_temperature(np.concatenate(scores), column)
        self._pipeline = pipeline.fit(clips, truth)
        return self

    def predict_proba(self, rows: NDArray[np.float32]) -> FloatArray:
        """Return float64[N, C]: the probability of each of `classes`, for float32[N, D].

        A row without a single finite value is predicted like a row of the training medians.
        """
        if self._pipeline is None:
            raise UsageError("the baseline has not been trained: call fit first")
        scores = self._scores(self._pipeline, _finite(rows))
        return _softmax(scores / self.temperature)

    def _scores(self, pipeline: Any, clips: FloatArray) -> FloatArray:
        """Return float64[N, C]: higher is likelier; log-probabilities or decision values."""
        if hasattr(pipeline, "decision_function") and not hasattr(pipeline, "predict_proba"):
            scores = np.asarray(pipeline.decision_function(clips))
            if scores.ndim == 1:
                scores = np.stack([-scores, scores], axis=1) / 2
        else:
            scores = np.log(np.maximum(pipeline.predict_proba(clips), SMALLEST_VOTE))
        if len(pipeline.classes_) == len(self.classes):
            return scores
        # An inner fold may lack a class of few artists: it then scores as the row's least likely.
        full = np.repeat(scores.min(axis=1, keepdims=True), len(self.classes), axis=1)
        full[:, np.searchsorted(self.classes, pipeline.classes_)] = scores
        return full


def _parts(name: str) -> tuple[str, str]:
    """Split a baseline's name into those of the feature set and the method."""
    if name not in baseline_names():
        raise UsageError(f"no baseline {name!r}; there are {', '.join(baseline_names())}")
    features, _, method = name.rpartition("-")
    return features, method


def _finite(rows: NDArray[np.float32]) -> FloatArray:
    """Replace values that are not finite with NaN, which marks missing values."""
    return np.where(np.isfinite(rows), rows, np.nan).astype(np.float64)


def _inner_folds(
    truth: NDArray[np.str_], groups: NDArray[np.str_], seed: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the indices of the training and test clips of each usable inner fold.

    A class of a single group is trained on and never tested, as it cannot be held out. With few
    groups, some fold may have a single class to train on, and is left out.
    """
    counts = [len(np.unique(groups[truth == label])) for label in np.unique(truth)]
    folds = min([INNER_FOLDS, *(count for count in counts if count > 1)])
    if max(counts) > 1:
        split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        for train, held_out in split.split(truth, truth, groups):
            test = held_out[np.isin(truth[held_out], truth[train])]
            if len(np.unique(truth[train])) > 1 and len(test):
                yield train, test


def _best_temperature(scores: FloatArray, truth: NDArray[np.int64]) -> float:
    rows = np.arange(len(truth))
    losses = [-np.log(_softmax(scores / t)[rows, truth] + 1e-12).mean() for t in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(losses))])


def _softmax(scores: FloatArray) -> FloatArray:
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities: FloatArray = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities
