"""Compute all metrics of one frame; intermediate results that several metrics need are computed once.

The definitions are those of the MATLAB code of cvzoya/saliency, which the DHF1K benchmark ships. Its random draws are
replaced by exact expectations (see ``auc``).
"""

from __future__ import annotations

import functools
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError, did_you_mean
from . import auc, monte_carlo
from .crowdsal import CrowdsalScorer
from .imresize import resize
from .inputs import check_same_size, is_finite, to_map, to_mask

METRICS = ("AUC-J", "AUC-B", "s-AUC", "CC", "NSS", "SIM", "KLDiv", "IG")
"""Names of the metrics, in the order of tables. For KLDiv lower is better, for all others higher."""

FixationProtocol = Literal["dhf1k", "crowdsal"]
"""Definitions of the metrics of fixations, by the dataset whose organizers score with them."""

EPS = np.finfo(np.float64).eps
"""MATLAB's ``eps``, which avoids logarithms of 0 and divisions by 0."""

NAN = float("nan")


def score_frame(
    prediction: ArrayLike,
    density: ArrayLike | None = None,
    fixation: ArrayLike | None = None,
    other_fixation: ArrayLike | None = None,
    baseline: ArrayLike | None = None,
    *,
    rng: np.random.Generator | None = None,
    protocol: FixationProtocol = "dhf1k",
) -> dict[str, float]:
    """Score the saliency map of a frame against its ground truth.

    The arguments are described for the protocol of DHF1K. With ``protocol="crowdsal"``, CC, SIM, NSS and AUC-J are
    those of the organizers of CrowdSAL, see :class:`~tinyhd_cli.metrics.crowdsal.CrowdsalScorer`: ``fixation`` may then
    be an integer array ``(n, 2)`` of row and column, in which repetitions count, and the later arguments must be None.

    Args:
        prediction: saliency map ``(h, w)`` in any scale; resized bicubically if its size differs from the ground truth.
        density: density map ``(H, W)``, uint8 or float, in any scale. For CC, SIM, KLDiv.
        fixation: fixation map ``(H, W)``, nonzero at fixated pixels. For AUC-J, AUC-B, s-AUC, NSS, IG.
        other_fixation: fixation map of frames of other videos, ``(H, W)``. For s-AUC.
        baseline: map that does not depend on the frame, such as a center bias, ``(H, W)``. For IG.
        rng: generator for the random procedures of the MATLAB code; None computes the exact expectations of the three
            AUCs instead.
        protocol: the definitions of the metrics, ``dhf1k`` or ``crowdsal``.

    Returns:
        The metrics whose inputs are given, by the names of ``METRICS``. A metric is NaN where it is not defined:

        - all metrics, if the prediction contains NaN or infinity;
        - AUC-J, AUC-B, s-AUC, NSS and IG, if there are no fixations;
        - AUC-B, if there is a single fixation, as in MATLAB;
        - CC, NSS, SIM, AUC-B, s-AUC and IG, if the prediction is constant;
        - CC and SIM, if the density is constant.

        SIM is 0 instead if one of the maps is 0 everywhere.

    Raises:
        InputError: a map is not two-dimensional, the ground-truth maps differ in size, or a density is given and the
            prediction has negative values, for which KLDiv is not defined; or an argument does not apply to the
            protocol.
    """
    if protocol == "crowdsal":
        if not (other_fixation is None and baseline is None and rng is None):
            raise InputError("protocol crowdsal: has no s-AUC, IG or random draws; omit other_fixation, baseline, rng")
        return CrowdsalScorer(prediction, density, fixation).scores()
    if protocol != "dhf1k":
        raise InputError(f"protocol {protocol!r} is unknown: {did_you_mean(protocol, get_args(FixationProtocol))}")
    frame = FrameScorer(prediction, density, fixation, other_fixation, baseline, rng=rng)
    return frame.scores()


class FrameScorer:
    """Computes the metrics of a prediction and the ground truth of its frame, one by one or all at once.

    Arguments and errors are those of :func:`score_frame`. Each metric is a method, which needs the inputs given there.

    Attributes:
        prediction: the saliency map at the size of the ground truth, uint8 or float64 ``(H, W)``.
        density: density map ``(H, W)``, or None.
        fixation: binary fixation map ``(H, W)``, or None.
        other_fixation: binary fixation map of other videos, ``(H, W)``, or None.
        baseline: baseline map ``(H, W)``, or None.
        finite: whether the prediction contains neither NaN nor infinity.
    """

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
        names = ("density", "fixation", "other_fixation", "baseline")
        size = check_same_size({name: getattr(self, name) for name in names}) or given.shape
        self.finite = is_finite(given)
        self._negative = self.finite and given.dtype.kind in "if" and bool(given.min() < 0)
        if given.shape != size and self.finite:
            given = resize(given, size)
        self.prediction = given if given.dtype == np.uint8 else given.astype(np.float64, copy=False)

    def scores(self) -> dict[str, float]:
        """Return all metrics whose inputs are given, by name."""
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
        """Pairs of predicted value and density, and the number of pixels of each pair.

        Two 8-bit maps have only a few thousand distinct pairs, which their joint histogram counts fast. Otherwise every
        pixel is a pair of its own.
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
        """Minimum and maximum of the prediction."""
        return float(self.prediction.min()), float(self.prediction.max())

    @functools.cached_property
    def _all_values(self) -> auc.Distribution:
        """The values of the prediction at all pixels."""
        return auc.Distribution(self.prediction)

    @functools.cached_property
    def _fixated(self) -> NDArray[Any]:
        """The values of the prediction at the fixated pixels."""
        assert self.fixation is not None
        return self.prediction[self.fixation]

    def auc_judd(self) -> float:
        """Return AUC-Judd (AUC_Judd.m): 0..1, chance is 1/2. NaN without fixations.

        It is the expectation over MATLAB's jitter of up to 1e-7 for maps whose values are equal or differ by more than
        that. In a map that sums to 1, the jitter would also change the order of different values; this does not.
        """
        if self._rng is not None:
            assert self.fixation is not None
            return monte_carlo.judd(self.prediction, self.fixation, self._rng)
        return auc.judd(self._all_values, self._fixated)

    def auc_borji(self) -> float:
        """Return AUC-Borji (AUC_Borji.m): 0..1, chance is 1/2.

        NaN for a constant prediction and for fewer than two fixations. (It is defined for one fixation, but MATLAB
        returns NaN.)
        """
        if self._fixated.size < 2:
            return NAN
        if self._rng is not None:
            assert self.fixation is not None
            return monte_carlo.borji(self.prediction, self.fixation, self._rng)
        return auc.expected_over_splits(self._fixated, self._all_values, *self._limits)

    def auc_shuffled(self) -> float:
        """Return shuffled AUC (AUC_shuffled.m): 0..1; chance, and a pure center bias, are 1/2.

        NaN for a constant prediction, without fixations, and without fixations of other videos.
        """
        assert self.other_fixation is not None
        if self._rng is not None:
            assert self.fixation is not None
            return monte_carlo.shuffled(self.prediction, self.fixation, self.other_fixation, self._rng)
        negatives = auc.Distribution(self.prediction[self.other_fixation])
        return auc.expected_over_splits(self._fixated, negatives, *self._limits)

    def cc(self) -> float:
        """Return the linear correlation coefficient (CC.m): -1..1. NaN if either map is constant."""
        p, g, count = self._cells
        if self.constant or not g.min() < g.max():  # else rounding errors of a constant map would be correlated
            return NAN
        p = p - weighted_sum(p, count) / count.sum()
        g = g - weighted_sum(g, count) / count.sum()
        variances = weighted_sum(p**2, count) * weighted_sum(g**2, count)
        return float(weighted_sum(p * g, count) / np.sqrt(variances)) if variances > 0 else NAN

    @property
    def constant(self) -> bool:
        """Whether the prediction has the same value at all pixels."""
        low, high = self._limits
        return not low < high

    def nss(self) -> float:
        """Return normalized scanpath saliency (NSS.m): the mean standardized prediction at fixations; chance is 0.

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
        """Return the similarity, or histogram intersection (similarity.m): 0..1.

        NaN if either map is constant; 0 if a map is 0 everywhere.
        """
        p, g, count = self._cells
        return weighted_sum(np.minimum(to_distribution(p, count), to_distribution(g, count)), count)

    def kldiv(self) -> float:
        """Return the Kullback-Leibler divergence of the prediction from the density (KLdiv.m), in nats; 0 is best.

        Negative values that result from resizing are replaced by 0, after division by the sum.

        Raises:
            InputError: the prediction has negative values.
        """
        if self._negative:
            raise InputError("prediction: has negative values, for which KLDiv is not defined")
        p, g, count = self._cells
        p, g = (values / weighted_sum(values, count) if values.any() else values for values in (p, g))
        p = np.maximum(p, 0)
        return weighted_sum(g * np.log(EPS + g / (p + EPS)), count)

    def ig(self) -> float:
        """Return the information gain over the baseline (InfoGain.m), in bits per fixation; 0 equals the baseline.

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
    """Return the sum of values times counts. It avoids BLAS, whose threads slow each other down on busy cores."""
    return float(np.einsum("i,i->", values, count))


def to_distribution(values: NDArray[np.float64], count: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rescale values to 0..1 and then to a sum of 1 over all pixels; zeros remain zeros, other constants become NaN."""
    if not values.any():
        return values
    low, high = values.min(), values.max()
    if not low < high:
        return np.full_like(values, NAN)
    scaled = (values - low) / (high - low)
    distribution: NDArray[np.float64] = scaled / weighted_sum(scaled, count)
    return distribution


def distribution_at(values: NDArray[Any], where: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Rescale a map to 0..1 and then to a sum of 1, and return it at some pixels; NaN if it is constant."""
    low, high = float(values.min()), float(values.max())
    if not low < high:
        return np.full(np.count_nonzero(where), NAN)
    total = (values.sum(dtype=np.float64) - low * values.size) / (high - low)
    distribution: NDArray[np.float64] = (values[where].astype(np.float64) - low) / (high - low) / total
    return distribution
