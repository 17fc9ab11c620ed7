"""From scores to probabilities: how often candidates of a score are right."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

FEWEST = 20  # candidates, and at least one of either kind: with fewer, nothing is said
_FEWEST_ISOTONIC = 200  # with fewer, a curve of two numbers is surer than steps
_MOST_POINTS = 64
_SMALLEST = 1 / 65535 / 2  # scores are multiples of 1 / 65535
_NEWTON_STEPS, _CLOSE = 50, 1e-9
_RIDGE = 1e-6  # so that there is one best curve


def isotonic(scores: Floats, right: BoolArray) -> tuple[Floats, Floats]:
    """Points (scores, probabilities) of the rising step function that fits best, at most 64 of them.

    Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability estimates" (2002). Each end is
    smoothed as if one more candidate of the other kind were there, so that nothing is called certain.
    """
    from scipy.optimize import isotonic_regression

    order = np.argsort(scores, kind="stable")
    scores = scores[order]
    fit = isotonic_regression(right[order].astype(np.float64))
    values = np.clip(fit.x, 1 / (fit.weights[0] + 2), 1 - 1 / (fit.weights[-1] + 2))
    first, last = fit.blocks[:-1], fit.blocks[1:] - 1
    corners = np.unique(np.concatenate([first, last]))  # where steps begin and end
    if len(corners) > _MOST_POINTS:
        corners = corners[np.unique(np.linspace(0, len(corners) - 1, _MOST_POINTS).astype(np.int64))]
    return scores[corners], values[corners]


def platt(scores: Floats, right: BoolArray) -> tuple[Floats, Floats]:
    """Points (scores, probabilities) of a logistic curve over the scores' log-odds.

    J. Platt, "Probabilistic outputs for support vector machines" (1999), with his smoothed targets, by Newton's method whose
    steps are halved until they help: whole ones run away where scores part right from wrong (H.-T. Lin, C.-J. Lin and R. C.
    Weng, "A note on Platt's probabilistic outputs for support vector machines", 2007). A curve that would fall is held
    level; it ends where so many candidates can tell nothing from certainty.
    """
    from scipy.special import expit

    odds = _log_odds(scores)
    n_right, n_wrong = int(right.sum()), int((~right).sum())
    targets = np.where(right, (n_right + 1) / (n_right + 2), 1 / (n_wrong + 2))
    design = np.stack([odds, np.ones_like(odds)], axis=1)

    def loss(curve: Floats) -> float:
        heights = design @ curve
        return float((np.logaddexp(0, heights) - targets * heights).sum() + _RIDGE / 2 * (curve @ curve))

    curve = np.array([0.0, np.log((n_right + 1) / (n_wrong + 1))])
    for _ in range(_NEWTON_STEPS):
        said = expit(design @ curve)
        slopes = design.T @ (targets - said) - _RIDGE * curve
        step = np.linalg.solve(design.T @ (design * (said * (1 - said))[:, None]) + _RIDGE * np.eye(2), slopes)
        while loss(curve + step) > loss(curve) and float(np.abs(step).max()) >= _CLOSE:
            step = step / 2
        if float(np.abs(step).max()) < _CLOSE:
            break
        curve = curve + step
    low, high = _log_odds(np.array([0.0, 1.0])).tolist()
    points: Floats = expit(np.linspace(low, high, _MOST_POINTS))  # dense where scores crowd, at the ends
    if curve[0] <= 0:
        return points, np.full(_MOST_POINTS, float(targets.mean()))
    probabilities = expit(np.stack([_log_odds(points), np.ones(_MOST_POINTS)], axis=1) @ curve)
    return points, np.clip(probabilities, 1 / (len(scores) + 2), 1 - 1 / (len(scores) + 2))


def fitted(scores: Floats, right: BoolArray) -> tuple[str, Floats, Floats] | None:
    """The method and the points that so many candidates allow: isotonic from 200 on, else Platt's; None below 20."""
    if len(scores) < FEWEST or right.all() or not right.any():
        return None
    if len(scores) >= _FEWEST_ISOTONIC:
        return "isotonic", *isotonic(scores, right)
    return "platt", *platt(scores, right)


def _log_odds(scores: Floats) -> Floats:
    inside = np.clip(scores, _SMALLEST, 1 - _SMALLEST)
    odds: Floats = np.log(inside / (1 - inside))
    return odds
