"""Gaussian process regression on a warped unit cube, with effects of the code and of the seed.

    value = constant + additive(x) + joint(x) + code + seed + residual

`additive` is a sum of functions of one parameter each, `joint` a function of all of them (after Duvenaud
et al. 2011): most parameters act alone, some together. `code` is what changes of files are worth, `seed` is
common to runs of one seed. Hyperparameters are the most probable ones under log-normal priors whose lengths
grow with the number of parameters (Hvarfner et al. 2024).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs
from scipy.optimize import minimize

Array = NDArray[np.float64]
Index = NDArray[np.int64] | NDArray[np.bool_]

LEAST_PART = 3e-3  # standard deviation of a parameter's own function that counts
SCALARS = 5  # hyperparameters besides those of each parameter
ROUGH, ROUGH_SPREAD = 0.01, 0.5  # what is expected of the surface's roughness, and its logarithm's spread
ALIKE = 0.8  # correlation of what a setting is worth at two scales
JITTER = 1e-6  # of the values' variance: keeps equal rows apart
ROUNDS = 60  # evaluations of the likelihood from a cold start
WARM_ROUNDS = 10  # and from the last fit's hyperparameters
COLD, COLD_EVERY = 24, 12  # rows below which, and at every so many of which, a cold start is tried as well
SETTLED, EVERY = 60, 3  # rows from which hyperparameters are found again at every so many only


@dataclass(frozen=True)
class Rows:
    """Where values were or could be measured.

    Args:
        x: (rows, parameters), on the unit cube; a categorical parameter holds the index of its choice.
        code: (rows, codes), 1 where the change of files is in the row's tree.
        seed: (rows,), index of the seed; -1 for none.
        rung: (rows,), 0 for the base scale.
    """

    x: Array
    code: Array
    seed: NDArray[np.int64]
    rung: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.x)

    def of(self, index: Index) -> Rows:
        """Some of them."""
        return Rows(self.x[index], self.code[index], self.seed[index], self.rung[index])

    def joined(self, other: Rows) -> Rows:
        x, code = np.concatenate([self.x, other.x]), np.concatenate([self.code, other.code])
        seed, rung = np.concatenate([self.seed, other.seed]), np.concatenate([self.rung, other.rung])
        return Rows(x, code, seed, rung)


@dataclass(frozen=True)
class Weights:
    """Hyperparameters, in units of the standardised values.

    Args:
        lengths, joint_lengths: (parameters,), of the additive and of the joint part.
        parts: (parameters,), standard deviation of each parameter's own function.
        joint, rough, code, seed, noise: standard deviations; `rough` is what each setting has to itself,
            where the surface is not smooth.
    """

    lengths: Array
    joint_lengths: Array
    parts: Array
    joint: float
    rough: float
    code: float
    seed: float
    noise: float

    def packed(self) -> Array:
        scalars = [self.joint, self.rough, self.code, self.seed, self.noise]
        logs: Array = np.log(np.concatenate([self.lengths, self.joint_lengths, self.parts, scalars]))
        return logs

    @classmethod
    def unpacked(cls, logs: Array) -> Weights:
        size = (len(logs) - SCALARS) // 3
        values = np.exp(logs)
        return cls(
            values[:size],
            values[size : 2 * size],
            values[2 * size : 3 * size],
            *map(float, values[-SCALARS:]),
        )


def priors(size: int) -> tuple[Array, Array]:
    """Mean and standard deviation of the logarithm of each hyperparameter."""
    # A parameter's own function is smooth: of the kind that has one optimum.
    own = np.full(size, math.log(0.6)), np.full(size, 0.4)
    joint = np.full(size, math.log(0.7) + 0.5 * math.log(size)), np.full(size, 0.8)
    parts = np.full(size, math.log(0.7) - 0.5 * math.log(size)), np.full(size, 1.2)
    rest = np.log([0.7, ROUGH, 0.5, 0.2, 0.1]), np.array([1.0, ROUGH_SPREAD, 1.0, 1.2, 1.2])
    pairs = zip(own, joint, parts, rest, strict=True)
    mean, sd = (np.concatenate(group) for group in pairs)
    return mean, sd


def gaussian(squares: Array) -> Array:
    """Correlation at squared distances in lengths, which it is written over, for the smooth function of one
    parameter. Its derivative by the logarithm of a length is itself times the squared distance.
    """
    squares *= -0.5
    return np.exp(squares, out=squares)


def matern(squares: Array) -> tuple[Array, Array]:
    """Correlation at squared distances in lengths for the joint function, which may bend (Matérn's, of
    smoothness 5/2), with its derivative by the logarithm of a length, over the squared distance.
    """
    root = np.sqrt(5 * squares)
    fall = np.exp(-root)
    return (1 + root + root * root / 3) * fall, (5 / 3) * (1 + root) * fall


class Kernel:
    """Covariances between rows; `categorical` marks the parameters whose values have no order."""

    def __init__(self, categorical: NDArray[np.bool_]) -> None:
        self.categorical = categorical

    def squares(self, a: Array, b: Array, parameter: int) -> Array:
        """(rows of a, rows of b): squared distance along one parameter, given both columns of coordinates."""
        steps: Array = a - b.T
        if self.categorical[parameter]:
            steps = np.sign(steps)
        steps *= steps
        return steps

    def between(self, w: Weights, a: Rows, b: Rows) -> Array:
        """Covariance of what two rows' settings are worth, whatever their seeds."""
        out, far = np.zeros((len(a), len(b))), np.zeros((len(a), len(b)))
        for k, (part, length) in enumerate(zip(w.parts, w.lengths, strict=True)):
            steps = self.squares(a.x[:, k : k + 1], b.x[:, k : k + 1], k)
            far += steps / w.joint_lengths[k] ** 2
            if part > LEAST_PART:
                steps /= length**2
                out += part**2 * gaussian(steps)
        out += w.joint**2 * matern(far)[0] + w.rough**2 * (far == 0)
        if a.code.shape[1]:
            out += w.code**2 * (a.code @ b.code.T)
        if a.rung.any() or b.rung.any():
            out *= np.where(a.rung[:, None] == b.rung, 1.0, ALIKE)
        return out

    def outwards(self, a: Rows) -> Array:
        """How far out each row is: 0 in the middle of all ranges, 1 at their ends, by the mean square."""
        far: Array = ((2 * a.x - 1) ** 2 * ~self.categorical).sum(1) / max(1, a.x.shape[1])
        return far

    def at(self, w: Weights, a: Rows) -> Array:
        """`between` of each row with itself."""
        settings: float = w.joint**2 + w.rough**2 + np.sum(w.parts**2)
        out: Array = settings + w.code**2 * a.code.sum(1)
        return out


def same_seed(a: Rows, b: Rows) -> Array:
    """1 where two rows were run with one seed."""
    same: NDArray[np.bool_] = (a.seed[:, None] == b.seed[None, :]) & (a.seed[:, None] >= 0)
    same &= a.rung[:, None] == b.rung
    return same.astype(float)


class Likelihood:
    """Of values given hyperparameters, with its gradient; what does not depend on them is worked out once.

    Matrices between rows are held as their lower triangles.
    """

    def __init__(self, kernel: Kernel, rows: Rows, values: Array, noise: float | None = None) -> None:
        self.values = values
        self.below = np.tril_indices(len(rows))
        self.diagonal = np.flatnonzero(self.below[0] == self.below[1])
        columns = [rows.x[:, k : k + 1] for k in range(rows.x.shape[1])]
        squares = [kernel.squares(column, column, k)[self.below] for k, column in enumerate(columns)]
        self.squares = np.array(squares).reshape(len(columns), len(self.below[0]))
        equal, seeds = (self.squares.sum(0) == 0).astype(float), same_seed(rows, rows)[self.below]
        # The largest arrays of an evaluation, kept: fresh memory for them each time has its price, too.
        self._own, self._slopes = np.empty_like(self.squares), np.empty_like(self.squares)
        self.rest = np.array([equal, (rows.code @ rows.code.T)[self.below], seeds])  # rough, code, seed
        self.mean, self.sd = priors(rows.x.shape[1])
        if noise is not None:
            self.mean[-1], self.sd[-1] = math.log(max(noise, 1e-3)), 0.2

    def __call__(self, logs: Array) -> tuple[float, Array]:
        """Negative log posterior density and its gradient by the logarithms."""
        w, n, size = Weights.unpacked(logs), len(self.values), len(self.squares)
        own = gaussian(np.divide(self.squares, w.lengths[:, None] ** 2, out=self._own))
        joint, joint_slope = matern(w.joint_lengths**-2.0 @ self.squares)
        scalars = np.array([w.rough, w.code, w.seed]) ** 2
        triangle = (
            w.parts**2 @ own + w.joint**2 * joint + scalars @ self.rest + 1.0
        )  # the constant's variance
        triangle[self.diagonal] += w.noise**2 + JITTER
        covariance = np.zeros((n, n), order="F")
        covariance[self.below] = triangle
        lower, wrong = dpotrf(covariance, lower=1, overwrite_a=1)
        if wrong:
            return 1e10, np.zeros_like(logs)
        alpha, _ = dpotrs(lower, self.values, lower=1)
        off = (logs - self.mean) / self.sd
        value = 0.5 * self.values @ alpha + np.log(np.diag(lower)).sum() + 0.5 * off @ off
        inverse, _ = dpotri(lower, lower=1)
        # Its product with the covariance's derivative, summed, is twice the gradient.
        slope = 2 * (inverse[self.below] - alpha[self.below[0]] * alpha[self.below[1]])
        slope[self.diagonal] *= 0.5
        gradient = np.empty_like(logs)
        own_slopes = np.multiply(own, self.squares, out=self._slopes)
        gradient[:size] = 0.5 * w.parts**2 / w.lengths**2 * (own_slopes @ slope)
        gradient[size : 2 * size] = (
            0.5 * w.joint**2 / w.joint_lengths**2 * (self.squares @ (slope * joint_slope))
        )
        gradient[2 * size : 3 * size] = w.parts**2 * (own @ slope)
        gradient[-5] = w.joint**2 * (joint @ slope)
        gradient[-4:-1] = scalars * (self.rest @ slope)
        gradient[-1] = w.noise**2 * slope[self.diagonal].sum()
        return float(value), gradient + off / self.sd


def fit(
    kernel: Kernel,
    rows: Rows,
    values: Array,
    start: Weights | None = None,
    noise: float | None = None,
    rounds: int = ROUNDS,
) -> Weights:
    """The most probable hyperparameters; from `start` with few evaluations, or none, where there is one."""
    likelihood = Likelihood(kernel, rows, values, noise)
    mean, sd = likelihood.mean, likelihood.sd
    bounds = list(zip(mean - 4 * sd, mean + 4 * sd, strict=True))
    starts = [(mean, rounds)]
    if start is not None:
        if len(values) >= SETTLED and len(values) % EVERY:
            return start
        starts = [(start.packed(), WARM_ROUNDS)]
        if len(values) < COLD or len(values) % COLD_EVERY == 0:
            starts.append((mean, rounds))
    found = min(
        (
            minimize(
                likelihood, first, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxfun": rounds}
            )
            for first, rounds in starts
        ),
        key=lambda one: one.fun,
    )
    return Weights.unpacked(found.x)


@dataclass
class Posterior:
    """What the rows' values say of any other row. Values are standardised by the caller.

    Args:
        edge: by how much a row at the ends of all ranges is expected to be worse than one in their middles,
            before anything is measured.
    """

    kernel: Kernel
    weights: Weights
    rows: Rows
    values: Array
    edge: float = 0.0
    _lower: Array = field(init=False, repr=False)
    _alpha: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        w = self.weights
        covariance = (
            self.kernel.between(w, self.rows, self.rows) + w.seed**2 * same_seed(self.rows, self.rows) + 1.0
        )
        covariance[np.diag_indices(len(covariance))] += w.noise**2 + JITTER
        self._lower = cholesky(covariance, lower=True, check_finite=False)
        told = self.values - self.expected(self.rows)
        self._alpha = cho_solve((self._lower, True), told, check_finite=False)

    def expected(self, at: Rows) -> Array:
        """What is expected of rows before anything is measured, but for a constant."""
        return self.edge * self.kernel.outwards(at)

    def mean(self, at: Rows) -> Array:
        known: Array = (self.kernel.between(self.weights, at, self.rows) + 1.0) @ self._alpha
        return known + self.expected(at)

    def difference(self, at: Rows, to: Rows) -> tuple[Array, Array]:
        """Mean and standard deviation of each row's worth less that of the one row `to`."""
        between = self.kernel.between
        known = between(self.weights, at, self.rows) - between(self.weights, to, self.rows)
        mean = known @ self._alpha + self.expected(at) - self.expected(to)
        v = solve_triangular(self._lower, known.T, lower=True, check_finite=False)
        prior = self.kernel.at(self.weights, at) + self.kernel.at(self.weights, to)
        variance = prior - 2 * between(self.weights, at, to)[:, 0] - np.einsum("ij,ij->j", v, v)
        return mean, np.sqrt(np.maximum(variance, 1e-12))

    def draws(self, at: Rows, count: int, rng: np.random.Generator) -> Array:
        """(count, rows): joint draws of what rows are worth."""
        known = self.kernel.between(self.weights, at, self.rows) + 1.0
        v = solve_triangular(self._lower, known.T, lower=True, check_finite=False)
        covariance = self.kernel.between(self.weights, at, at) + 1.0 - v.T @ v
        covariance[np.diag_indices(len(at))] += 1e-6
        values, vectors = np.linalg.eigh(covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        drawn: Array = known @ self._alpha + self.expected(at) + rng.normal(size=(count, len(at))) @ root.T
        return drawn

    def joined(self, more: Rows, values: Array) -> Posterior:
        """With more rows and their values, the hyperparameters as they are."""
        return replace(self, rows=self.rows.joined(more), values=np.concatenate([self.values, values]))

    def supposing(self, more: Rows) -> Posterior:
        """With rows on their way taken to come out as expected."""
        return self.joined(more, self.mean(more)) if len(more) else self
