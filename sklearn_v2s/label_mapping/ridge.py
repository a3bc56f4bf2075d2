# SPDX-License-Identifier: Apache-2.0
"""Ridge regression for a row of penalties, with exact leave-one-out scores.

All penalties share one Gram matrix G, of rows or of features, whichever is the smaller.
With an orthogonal Q and a matrix M whose inverse is cheap, ``G = Q M Q.T`` gives the
fit of each penalty, and what each row would get without itself, at the cost of a few
products. Up to some size M is diagonal (eigenvalues). Beyond, M is tridiagonal: that
is the first half of the way to the eigenvalues and needs no memory but that of G. Its
inverse is as exact, unless penalties are within some digits of rounding.
"""

from typing import NamedTuple, Protocol

import numpy as np
from scipy.linalg import blas, lapack

from sklearn_v2s.label_mapping.base import Floats
from sklearn_v2s.label_mapping.standard_rows import StandardRows

__all__ = ["Ridge", "fit_ridge_path"]

# What is left of a row's influence below this is rounding error.
_NO_INFORMATION = 1e-12
# Beyond, the eigenvectors take longer than the tridiagonal form, and the memory of
# several Gram matrices.
_LARGEST_EIGENPROBLEM = 2000
# Columns of Q that LAPACK forms together, where its workspace has room for them.
_BLOCK = 64
# Rows of Q to solve for at a time: their values for all penalties stay in a cache.
_CHUNK = 512


class Ridge(NamedTuple):
    """The ridge fit that leave-one-out prefers.

    Attributes
    ----------
    alpha : float
        Its penalty.
    coef : ndarray of shape (n_targets, d)
        Coefficients.
    intercept : ndarray of shape (n_targets,)
        Weighted means of the targets.
    loo_scores : ndarray of shape (n, n_targets)
        Of each row, by the fit without one unit of its weight.
    """

    alpha: float
    coef: Floats
    intercept: Floats
    loo_scores: Floats


class _Factors(Protocol):
    """``Q M Q.T``, with r columns of Q: the axes of a basis."""

    def to_basis(self, vectors: Floats) -> Floats:
        """Return ``Q.T @ vectors``."""

    def from_basis(self, vectors: Floats) -> Floats:
        """Return ``Q @ vectors``, of vectors of shape (r, ...)."""

    def solve(self, vectors: Floats, alphas: Floats) -> Floats:
        """Return ``inv(M + alpha) @ vectors``, of shape (r, n_alphas, n_vectors)."""

    def leverage(self, points: Floats, alphas: Floats) -> Floats:
        """Return ``p inv(M + alpha) p.T`` of rows p in the basis, (n, n_alphas)."""

    def own_leverage(self, alphas: Floats) -> Floats:
        """Return the diagonal of ``G inv(G + alpha)``, of shape (size, n_alphas)."""


class _Eigenvectors:
    """M holds the eigenvalues; those that are zero up to rounding are left out."""

    def __init__(self, gram: Floats, largest: int) -> None:
        values, vectors = np.linalg.eigh(gram)
        kept = values > values[-1] * largest * np.finfo(float).eps
        self._values, self._vectors = values[kept], vectors[:, kept]

    def to_basis(self, vectors: Floats) -> Floats:
        return self._vectors.T @ vectors

    def from_basis(self, vectors: Floats) -> Floats:
        return np.tensordot(self._vectors, vectors, 1)

    def solve(self, vectors: Floats, alphas: Floats) -> Floats:
        return vectors[:, None] / (self._values[:, None] + alphas)[..., None]

    def leverage(self, points: Floats, alphas: Floats) -> Floats:
        return points**2 @ (1 / (self._values[:, None] + alphas))

    def own_leverage(self, alphas: Floats) -> Floats:
        values = self._values[:, None]
        return self._vectors**2 @ (values / (values + alphas))


class _Tridiagonal:
    """M is tridiagonal. Q takes the place of the Gram matrix in memory.

    ``Q = diag(1, V)``, for the reduction leaves the first axis where it is.
    """

    def __init__(self, gram: Floats) -> None:
        size = len(gram)
        work, _ = lapack.dsytrd_lwork(size, lower=1)
        reduced, self._diagonal, self._beside, tau, _ = lapack.dsytrd(
            gram, lower=1, lwork=int(work), overwrite_a=1
        )
        # The reflections stand below the diagonal: moved to where a matrix of one row
        # and column less has them, without a second matrix.
        flat = reduced.reshape(-1, order="F")
        inner = size - 1
        for column in range(inner):
            start = column * size + 1
            flat[column * inner : (column + 1) * inner] = flat[start : start + inner]
        reflections = flat[: inner * inner].reshape((inner, inner), order="F")
        self._inner, _, _ = lapack.dorgqr(
            reflections, tau, lwork=_BLOCK * inner, overwrite_a=1
        )

    def to_basis(self, vectors: Floats) -> Floats:
        return np.concatenate([vectors[:1], self._inner.T @ vectors[1:]])

    def from_basis(self, vectors: Floats) -> Floats:
        inner = np.tensordot(self._inner, vectors[1:], 1)
        return np.concatenate([vectors[:1], inner])

    def solve(self, vectors: Floats, alphas: Floats) -> Floats:
        solved = [
            lapack.dptsv(self._diagonal + alpha, self._beside, vectors)[2]
            for alpha in alphas
        ]
        return np.stack(solved, axis=1)

    def leverage(self, points: Floats, alphas: Floats) -> Floats:
        return self._quadratic(points, alphas, first=0)

    def own_leverage(self, alphas: Floats) -> Floats:
        corner = np.eye(1, len(self._diagonal))
        found = np.concatenate(
            [
                self._quadratic(corner, alphas, first=0),
                self._quadratic(self._inner, alphas, first=1),
            ]
        )
        return 1 - alphas * found

    def _quadratic(self, points: Floats, alphas: Floats, first: int) -> Floats:
        """Return ``p inv(M + alpha) p.T``; `points` are 0 on the axes before `first`.

        These axes are left out of `points`.
        """
        # M + alpha = L D L.T with a bidiagonal L, so that p = L u gives u D^-1 u.T.
        diagonal = self._diagonal[:, None] + alphas
        pivots = np.empty_like(diagonal)
        ratios = np.zeros_like(diagonal)
        pivots[0] = diagonal[0]
        for axis in range(1, len(diagonal)):
            beside = self._beside[axis - 1]
            ratios[axis] = beside / pivots[axis - 1]
            pivots[axis] = diagonal[axis] - beside * ratios[axis]
        inverses, ratios = 1 / pivots[first:, :, None], ratios[first:, :, None]
        found = np.empty((len(points), len(alphas)))
        for start in range(0, len(points), _CHUNK):
            axes = points[start : start + _CHUNK].T
            total, solved, square = np.zeros((3, len(alphas), axes.shape[1]))
            for point, inverse, ratio in zip(axes, inverses, ratios, strict=True):
                np.multiply(solved, ratio, out=square)
                np.subtract(point, square, out=solved)
                np.multiply(solved, solved, out=square)
                np.multiply(square, inverse, out=square)
                total += square
            found[start : start + _CHUNK] = total.T
        return found


def fit_ridge_path(
    rows: StandardRows,
    targets: Floats,
    weight: Floats,
    alphas: Floats,
    judges: Floats | None = None,
) -> Ridge:
    """Fit centred rows for all penalties and keep the best of them.

    Parameters
    ----------
    rows : StandardRows of shape (n, d)
        What to fit to.
    targets : ndarray of shape (n, n_targets)
        Any values.
    weight : ndarray of shape (n,)
        Positive weights.
    alphas : ndarray of shape (n_alphas,)
        Penalties, ascending.
    judges : ndarray of shape (n,), default=None
        Weights of the rows where penalties are compared; None takes `weight`.

    Returns
    -------
    Ridge
        Of the penalty with the least squared leave-one-out error, weighted by `judges`;
        of equally good ones the largest.

    References
    ----------
    Rifkin, Lippert. Notes on Regularized Least Squares. MIT-CSAIL-TR-2007-025, 2007.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s.label_mapping.ridge import fit_ridge_path
    >>> from sklearn_v2s.label_mapping.standard_rows import StandardRows
    >>> x, weight = np.array([[-1.0], [0.0], [1.0]]), np.ones(3)
    >>> fit = fit_ridge_path(StandardRows(x, weight), 2 * x, weight, np.array([0.5, 9]))
    >>> fit.alpha
    0.5
    """
    n, d = rows.shape
    root = np.sqrt(weight)
    intercept = weight @ targets / weight.sum()
    centred = (targets - intercept) * root[:, None]
    wide = n <= d
    factors = _factorise(_gram(rows, root, wide), max(n, d), alphas)
    if wide:
        moments = factors.to_basis(centred)
        shrunk = factors.solve(moments, alphas)
        fitted = moments[:, None] - alphas[:, None] * shrunk
        residuals = centred[:, None] - factors.from_basis(fitted)
        leverage = factors.own_leverage(alphas)
    else:
        product = np.zeros((d, targets.shape[1]))
        for part, values in rows.row_parts():
            product += values.T @ (centred * root[:, None])[part]
        shrunk = factors.solve(factors.to_basis(product), alphas)
        residuals = np.empty((n, len(alphas), targets.shape[1]))
        leverage = np.empty((n, len(alphas)))
        for part, values in rows.row_parts():
            points = factors.to_basis((values * root[part, None]).T).T
            residuals[part] = centred[part, None] - np.tensordot(points, shrunk, 1)
            leverage[part] = factors.leverage(points, alphas)
    residuals /= root[:, None, None]
    judges = weight if judges is None else judges
    index, loo_scores = _best(residuals, leverage, targets, weight, judges)
    dual = factors.from_basis(shrunk[:, index])
    coef = dual.T
    if wide:
        coef = np.empty((targets.shape[1], d))
        for part, values in rows.column_parts():
            coef[:, part] = (dual * root[:, None]).T @ values
    return Ridge(float(alphas[index]), coef, intercept, loo_scores)


def _gram(rows: StandardRows, root: Floats, wide: bool) -> Floats:
    """Return the lower triangle of ``H @ H.T`` or ``H.T @ H``, H the weighted rows."""
    size = rows.shape[0] if wide else rows.shape[1]
    gram = np.zeros((size, size), order="F")
    # Both products read the values as they lie in memory and add up in place.
    if wide:
        for _, values in rows.column_parts():
            values *= root[:, None]
            gram = blas.dsyrk(
                1.0, values.T, beta=1.0, c=gram, trans=1, lower=1, overwrite_c=1
            )
    else:
        for part, values in rows.row_parts():
            values *= root[part, None]
            gram = blas.dsyrk(1.0, values.T, beta=1.0, c=gram, lower=1, overwrite_c=1)
    return gram


def _factorise(gram: Floats, largest: int, alphas: Floats) -> _Factors:
    # A penalty that is lost in rounding needs to know which eigenvalues are zero.
    safe = alphas[0] > np.trace(gram) * largest * np.finfo(float).eps
    if len(gram) > _LARGEST_EIGENPROBLEM and safe:
        return _Tridiagonal(gram)
    return _Eigenvectors(gram, largest)


def _best(
    residuals: Floats,
    leverage: Floats,
    targets: Floats,
    weight: Floats,
    judges: Floats,
) -> tuple[int, Floats]:
    """Return which penalty is best and its leave-one-out scores.

    `residuals` (n, n_alphas, n_targets) are those of the fit; `leverage` is that of
    weighted rows.
    """
    # Leverage of one unit of weight; the intercept, which is not penalised, has
    # 1 / total.
    unit = leverage / weight[:, None] + 1 / weight.sum()
    left = 1 - np.minimum(weight, 1)[:, None] * unit
    scale = float(judges @ (targets**2).sum(axis=1))
    best_error, best = np.inf, (0, targets)
    for index in range(left.shape[1] - 1, -1, -1):
        # Where nothing is left without a row, its score is 0: no class is preferred.
        known = left[:, [index]] > _NO_INFORMATION
        loo_residuals = np.divide(
            residuals[:, index], left[:, [index]], out=targets.copy(), where=known
        )
        error = float(judges @ (loo_residuals**2).sum(axis=1))
        # Equal up to rounding is equal: the larger alpha, met first, is kept. Rounding
        # of the targets, that is: an error of nearly nothing may be anything.
        if error < best_error - 1e-9 * scale:
            best_error, best = error, (index, targets - loo_residuals)
    return best
