"""Robust nonlinear least squares in plain NumPy, for fitting efficiency curves where SciPy is not installed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def soft_l1_fit(
    residual: Callable[[FloatArray], FloatArray],
    start: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    *,
    scale: float = 0.05,
    prior: float = 0.3,
    iterations: int = 60,
) -> FloatArray:
    """Parameters that minimise sum of 2 (sqrt(1 + (r / scale)^2) - 1) + (prior (x - start))^2 within bounds.

    Levenberg-Marquardt on reweighted residuals (Triggs et al., Bundle Adjustment, 2000, section 4.3), forward differences, steps clipped
    to the bounds. The weak prior keeps directions that the data do not determine at their start.

    Arguments
    ---------
    residual: residuals r(x), here differences of logarithms of times.
    start, lower, upper: starting point and bounds, of the same length.
    scale: residual at which a row begins to count as an outlier.
    prior: weight of the distance to the start, per unit of x.
    iterations: most accepted and rejected steps together.
    """
    x = np.clip(start, lower, upper)
    anchor = x.copy()

    def objective(r: FloatArray, point: FloatArray) -> float:
        return float(np.sum(2.0 * (np.sqrt(1.0 + (r / scale) ** 2) - 1.0)) + np.sum((prior * (point - anchor)) ** 2))

    r = residual(x)
    best, damping = objective(r, x), 1e-2
    jacobian, fresh = np.empty((r.size, x.size)), False
    for _ in range(iterations):
        if not fresh:
            for column in range(x.size):
                step = 1e-5 if x[column] + 1e-5 <= upper[column] else -1e-5
                moved = x.copy()
                moved[column] += step
                jacobian[:, column] = (residual(moved) - r) / step
            fresh = True
        weight = 1.0 / np.sqrt(1.0 + (r / scale) ** 2) / scale**2
        normal = (jacobian * weight[:, None]).T @ jacobian + prior**2 * np.eye(x.size)
        gradient = jacobian.T @ (weight * r) + prior**2 * (x - anchor)
        free = ~(((x <= lower) & (gradient > 0)) | ((x >= upper) & (gradient < 0)))
        matrix = normal[np.ix_(free, free)]
        step_free = np.linalg.solve(matrix + damping * np.diag(np.diag(matrix)), -gradient[free])
        trial = x.copy()
        trial[free] = np.clip(x[free] + step_free, lower[free], upper[free])
        trial_r = residual(trial)
        value = objective(trial_r, trial)
        if value < best:
            converged = best - value < 1e-6 * best
            x, r, best, fresh = trial, trial_r, value, False
            damping = max(damping / 3.0, 1e-7)
            if converged:
                break
        else:
            damping *= 4.0
            if damping > 1e8:
                break
    return x
