"""All metrics of one frame, with what they share computed once.

Definitions: the MATLAB code of cvzoya/saliency, which the DHF1K benchmark ships; random draws are replaced by their
exact expectations (``auc``).
"""

from __future__ import annotations

import functools
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from . import auc, monte_carlo
from .resize import resize

METRICS = ("AUC-J", "AUC-B", "s-AUC", "CC", "NSS", "SIM", "KLDiv", "IG")
"""Their names, in the order of tables. All but KLDiv are better when greater."""

EPS = np.finfo(np.float64).eps

NAN = float("nan")


def score_frame(
    prediction: ArrayLike,
    density: ArrayLike | None = None,
    fixation: ArrayLike | None = None,
    other_fixation: ArrayLike | None = None,
    baseline: ArrayLike | None = None,
    *,
    rng: np.random.Generator | None = None,
) -> dict[str, float]:
    """Score a saliency map against where people looked.

    Args:
        prediction: saliency map ``(h, w)`` in any scale; if its size is not the ground truth's, it is resized.
        density: density map ``(H, W)``, uint8 or float, in any scale. For CC, SIM, KLDiv.
        fixation: fixation map ``(H, W)``, not 0 where people looked. For AUC-J, AUC-B, s-AUC, NSS, IG.
        other_fixation: fixations of other videos, ``(H, W)``. For s-AUC.
        baseline: a map without knowledge of this frame, such as a center bias, ``(H, W)``. For IG.
        rng: draw random numbers as the MATLAB code does, instead of exact expectations; for the three AUCs.

    Returns:
        The metrics whose inputs are given, by the names of ``METRICS``. NaN where a metric is not defined: all of them
        for a prediction that holds NaN or infinity; all but SIM and KLDiv without fixations (CC for want of a density);
        AUC-B with a single fixation, as in MATLAB; CC, NSS, SIM, AUC-B, s-AUC, IG for a constant prediction (but SIM is
        0 if the constant is 0).

    Raises:
        InputError: maps are not two-dimensional, the ground truth's differ in size, or the prediction is negative
            somewhere although KLDiv is wanted.
    """
    frame = FrameScorer(prediction, density, fixation, other_fixation, baseline, rng=rng)
    return frame.scores()


def to_map(name: str, values: ArrayLike | None) -> NDArray[Any] | None:
    """An input as an array ``(H, W)``."""
    if values is None:
        return None
    array = np.asarray(values)
    if array.ndim != 2 or not array.size or array.dtype.kind not in "buif":
        raise InputError(f"{name}: must be a numeric array of shape (height, width), not {array.dtype} {array.shape}")
    return array


def to_mask(name: str, values: ArrayLike | None) -> NDArray[np.bool_] | None:
    """An input as a binary map ``(H, W)``."""
    array = to_map(name, values)
    return None if array is None else array.astype(bool, copy=False)


class FrameScorer:
    """A prediction beside the ground truth of its frame. Arguments are those of :func:`score_frame`."""

    def __init__(
        self,
        prediction: ArrayLike,
        density: ArrayLike | None = None,
        fixation: ArrayLike | None = None,
        other_fixation: ArrayLike | None = None,
        baseline: ArrayLike | None = None,
        *,
        rng: np.random.Generator | None = None,
    ) -> None:
        given = to_map("prediction", prediction)
        assert given is not None
        self.density = to_map("density", density)
        self.fixation = to_mask("fixation", fixation)
        self.other_fixation = to_mask("other_fixation", other_fixation)
        self.baseline = to_map("baseline", baseline)
        self._rng = rng
        truth = {
            name: getattr(self, name).shape
            for name in ("density", "fixation", "other_fixation", "baseline")
            if getattr(self, name) is not None
        }
        if len(set(truth.values())) > 1:
            sizes = ", ".join(f"{name} {w} x {h}" for name, (h, w) in truth.items())
            raise InputError(f"the maps of a frame must have the same size, not {sizes}")
        self.finite = given.dtype == np.uint8 or bool(np.isfinite(given).all())
        self._negative = self.finite and given.dtype.kind in "if" and bool(given.min() < 0)
        size = next(iter(truth.values()), given.shape)
        if given.shape != size and self.finite:
            given = resize(given, size)
        self.prediction = given if given.dtype == np.uint8 else given.astype(np.float64, copy=False)

    def scores(self) -> dict[str, float]:
        """All metrics whose inputs are there, by name."""
        with_density, with_fixation = self.density is not None, self.fixation is not None
        computed = {
            "AUC-J": self.auc_judd if with_fixation else None,
            "AUC-B": self.auc_borji if with_fixation else None,
            "s-AUC": self.auc_shuffled if with_fixation and self.other_fixation is not None else None,
            "CC": self.cc if with_density else None,
            "NSS": self.nss if with_fixation else None,
            "SIM": self.sim if with_density else None,
            "KLDiv": self.kldiv if with_density else None,
            "IG": self.ig if with_fixation and self.baseline is not None else None,
        }
        return {name: metric() if self.finite else NAN for name, metric in computed.items() if metric is not None}

    @functools.cached_property
    def _cells(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Pairs of predicted value and density, and how many pixels have them.

        Two 8-bit maps have a few thousand pairs, which their joint histogram finds at once; else every pixel is one.
        """
        assert self.density is not None
        eight_bits = self.prediction.dtype == np.uint8 and self.density.dtype == np.uint8
        if eight_bits and self.prediction.size < auc.EXACT_IN_FLOAT32:
            maps = [np.ascontiguousarray(self.prediction), np.ascontiguousarray(self.density)]
            joint = cv2.calcHist(maps, [0, 1], None, [256, 256], [0, 256, 0, 256])
            levels = np.nonzero(joint)
            return levels[0].astype(np.float64), levels[1].astype(np.float64), joint[levels].astype(np.float64)
        p = self.prediction.ravel().astype(np.float64, copy=False)
        return p, self.density.ravel().astype(np.float64), np.ones(p.size)

    @functools.cached_property
    def _limits(self) -> tuple[float, float]:
        return float(self.prediction.min()), float(self.prediction.max())

    @functools.cached_property
    def _all_values(self) -> auc.Distribution:
        return auc.Distribution(self.prediction)

    @functools.cached_property
    def _fixated(self) -> NDArray[Any]:
        """The prediction at the fixated pixels."""
        assert self.fixation is not None
        return self.prediction[self.fixation]

    def auc_judd(self) -> float:
        """AUC-Judd (AUC_Judd.m): 0..1, chance is 1/2. NaN without fixations.

        The expectation over MATLAB's jitter of up to 1e-7, for maps whose values are equal or differ by more than that:
        of a map that sums to 1 the jitter would change the order, and this does not.
        """
        if self._rng is not None:
            assert self.fixation is not None
            return monte_carlo.judd(self.prediction, self.fixation, self._rng)
        return auc.judd(self._all_values, self._fixated)

    def auc_borji(self) -> float:
        """AUC-Borji (AUC_Borji.m): 0..1, chance is 1/2. NaN for a constant prediction and below two fixations.

        For one fixation it could be computed; MATLAB returns NaN, and so does this.
        """
        if self._fixated.size < 2:
            return NAN
        if self._rng is not None:
            assert self.fixation is not None
            return monte_carlo.borji(self.prediction, self.fixation, self._rng)
        return auc.expected_over_splits(self._fixated, self._all_values, *self._limits)

    def auc_shuffled(self) -> float:
        """Shuffled AUC (AUC_shuffled.m): 0..1, chance and a pure center bias are 1/2.

        NaN for a constant prediction, without fixations, and where the other videos have none.
        """
        assert self.other_fixation is not None
        if self._rng is not None:
            assert self.fixation is not None
            return monte_carlo.shuffled(self.prediction, self.fixation, self.other_fixation, self._rng)
        negatives = auc.Distribution(self.prediction[self.other_fixation])
        return auc.expected_over_splits(self._fixated, negatives, *self._limits)

    def cc(self) -> float:
        """Linear correlation coefficient (CC.m): -1..1. NaN if either map is constant."""
        p, g, count = self._cells
        if self.constant or not g.min() < g.max():  # what rounding leaves of a constant must not be correlated
            return NAN
        p = p - weighted_sum(p, count) / count.sum()
        g = g - weighted_sum(g, count) / count.sum()
        variances = weighted_sum(p**2, count) * weighted_sum(g**2, count)
        return float(weighted_sum(p * g, count) / np.sqrt(variances)) if variances > 0 else NAN

    @property
    def constant(self) -> bool:
        """Whether the prediction has one value everywhere."""
        low, high = self._limits
        return not low < high

    def nss(self) -> float:
        """Normalized scanpath saliency (NSS.m): the prediction at fixations in standard deviations; chance is 0.

        NaN for a constant prediction and without fixations.
        """
        if self.constant or not self._fixated.size:
            return NAN
        if self.prediction.dtype == np.uint8:
            levels, count = np.arange(256.0), auc.histogram(self.prediction)
            mean = weighted_sum(levels, count) / self.prediction.size
            variance = weighted_sum((levels - mean) ** 2, count) / (self.prediction.size - 1)
        else:
            mean, variance = self.prediction.mean(), self.prediction.var(ddof=1)
        return float((self._fixated.mean(dtype=np.float64) - mean) / np.sqrt(variance))

    def sim(self) -> float:
        """Similarity, or histogram intersection (similarity.m): 0..1.

        NaN if either map is constant, unless it is 0 everywhere: that stays so, and the similarity is 0.
        """
        p, g, count = self._cells
        return weighted_sum(np.minimum(to_distribution(p, count), to_distribution(g, count)), count)

    def kldiv(self) -> float:
        """Kullback-Leibler divergence of the prediction from the density (KLdiv.m): from 0, in nats; less is better.

        Where resizing made a value negative, 0 is taken after dividing by the sum.

        Raises:
            InputError: the prediction is negative somewhere.
        """
        if self._negative:
            raise InputError("prediction: has negative values, for which KLDiv is not defined")
        p, g, count = self._cells
        p, g = (values / weighted_sum(values, count) if values.any() else values for values in (p, g))
        p = np.maximum(p, 0)
        return weighted_sum(g * np.log(EPS + g / (p + EPS)), count)

    def ig(self) -> float:
        """Information gain over the baseline (InfoGain.m): bits a fixation; 0 is the baseline's worth.

        NaN for a constant prediction or baseline, and without fixations.
        """
        assert self.baseline is not None and self.fixation is not None
        if not self._fixated.size:
            return NAN
        at_fixations = (
            np.log2(EPS + distribution_at(self.prediction, self.fixation)),
            np.log2(EPS + distribution_at(self.baseline, self.fixation)),
        )
        return float(np.mean(at_fixations[0] - at_fixations[1]))


def weighted_sum(values: NDArray[np.float64], count: NDArray[Any]) -> float:
    """The sum of values that come up so many times. Not by BLAS, whose threads hinder each other on busy cores."""
    return float(np.einsum("i,i->", values, count))


def to_distribution(values: NDArray[np.float64], count: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values scaled to 0..1, then so that they sum to 1 over all pixels; all zero stays, other constants are NaN."""
    if not values.any():
        return values
    low, high = values.min(), values.max()
    if not low < high:
        return np.full_like(values, NAN)
    scaled = (values - low) / (high - low)
    shares: NDArray[np.float64] = scaled / weighted_sum(scaled, count)
    return shares


def distribution_at(values: NDArray[Any], where: NDArray[np.bool_]) -> NDArray[np.float64]:
    """A map scaled to 0..1, then so that it sums to 1 over all pixels, at some of them; NaN if it is constant."""
    low, high = float(values.min()), float(values.max())
    if not low < high:
        return np.full(np.count_nonzero(where), NAN)
    total = (values.sum(dtype=np.float64) - low * values.size) / (high - low)
    shares: NDArray[np.float64] = (values[where].astype(np.float64) - low) / (high - low) / total
    return shares
