"""What may be said of a distribution after some draws of it, with a stated confidence and whatever the distribution is.

Two families. Of one draw a unit: order statistics and the binomial distribution, exact. Of sums within units whose members
depend on each other: bets on the mean of a bounded variable. Nothing here knows of images; `thresholds` applies it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from segsvc.imaging.compiled import compiled

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_CLIP = 0.99  # of the largest stake that cannot lose everything
_TABLE_TO, _TABLE_STEP = 40.0, 1 / 64  # of -log(p); beyond, p is below 1e-17


def order_rank(n: int, *, share: float, delta: float) -> int:
    """The largest k for which the k-th smallest of n draws has at most `share` of the distribution below it; 0 for none.

    Theorem (S. S. Wilks, "Determination of sample sizes for setting tolerance limits", 1941; for distributions that are not
    continuous H. Scheffe and J. W. Tukey, "Non-parametric estimation. I. Validation of order statistics", 1945). Let S_1,
    ..., S_n be independent with one distribution, and S_(k) the k-th smallest. Then P(S < S_(k)) <= share with a probability
    of at least P(Bin(n, share) >= k), with equality where the distribution is continuous. (Let s be the largest number with
    P(S < s) <= share. More lies below S_(k) only where S_(k) > s, so where fewer than k draws are at most s; and each is so
    with a probability P(S <= s) >= share.) The rank is the largest one for which that probability is at least 1 - delta.
    """
    _check(share, delta)
    from scipy.stats import binom

    rank = int(binom.ppf(delta, n, share))  # the smallest x with P(Bin <= x) >= delta
    while rank > 0 and binom.cdf(rank - 1, n, share) > delta:
        rank -= 1
    while rank < n and binom.cdf(rank, n, share) <= delta:
        rank += 1
    return rank


def order_confidence(n: int, rank: int, *, share: float) -> float:
    """The probability that at most `share` of a continuous distribution lies below the rank-th smallest of n draws."""
    from scipy.stats import binom

    return float(binom.sf(rank - 1, n, share))


def fewest_draws(rank: int, *, share: float, delta: float) -> int:
    """The smallest n whose `order_rank` is at least `rank`, which is 1 or more."""
    low, high = 0, max(rank, 1)
    while order_rank(high, share=share, delta=delta) < rank:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if order_rank(middle, share=share, delta=delta) >= rank else (middle, high)
    return high


def most_share(events: int, n: int, *, delta: float) -> float:
    """An upper bound for the probability of an event that came `events` times in n independent trials.

    Theorem (C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits illustrated in the case of the
    binomial", 1934): the probability p lies above it in at most delta of such experiments. It is the p with which `events`
    or fewer come with a probability of delta; 1.0 where they came every time, or there were no trials.
    """
    if not 0 <= events <= n:
        raise ValueError(f"events must lie between 0 and n ({n}), got {events}")
    if events == n:
        return 1.0
    from scipy.stats import beta

    return float(beta.isf(delta, events + 1, n - events))


def most_members(events: int, drawn: int, population: int, *, delta: float) -> int:
    """An upper bound for how many of a finite population are of a kind, of which `events` came among `drawn` of them.

    Theorem (J. P. Buonaccorsi, "A note on confidence intervals for proportions in finite populations", 1987): let the drawn
    ones be any so many of the population with equal probability. Then the number K of the kind lies above the bound in at
    most delta of such draws. The bound is the largest K with P(Hyp(population, K, drawn) <= events) > delta. (Let e be the
    largest number with P(Hyp(population, K, drawn) <= e) <= delta for the true K, where there is one. That probability falls
    as K grows, so the bound lies below K only where at most e events came: with a probability of at most delta.) With all
    drawn it is `events`; with none, the population. Raises ValueError for numbers that do not fit.
    """
    if not (0 <= events <= drawn <= population and 0 < delta < 1):
        raise ValueError(f"expected 0 <= events <= drawn <= population and delta between 0 and 1, got {events}, {drawn}, "
                         f"{population} and {delta}")
    from scipy.stats import hypergeom

    low, high = events, population - (drawn - events)  # low has probability 1; what is above high cannot be
    while low < high:  # the probability falls as K grows
        middle = (low + high + 1) // 2
        low, high = (middle, high) if hypergeom.cdf(events, population, middle, drawn) > delta else (low, middle - 1)
    return low


@dataclass(frozen=True, slots=True)
class Guess:
    """What is thought of the gains before they are seen: the mean of their squares, and how many draws that is worth.

    It comes from elsewhere than the gains, and decides how well bets do, never whether they are valid.
    """

    square: float
    weight: float = 10.0

    def __post_init__(self) -> None:
        if not (self.square > 0 and self.weight > 0):
            raise ValueError(f"square and weight must be above 0, got {self.square} and {self.weight}")


def shows_gain(gains: Floats, *, most_loss: float, delta: float, guess: Guess) -> bool:
    """Whether n draws (n,) of a gain show, at confidence 1 - delta, that its mean is above 0. None is below -most_loss.

    Theorem (J. Ville, "Etude critique de la notion de collectif", 1939; for means of bounded variables I. Waudby-Smith and
    A. Ramdas, "Estimating means of bounded random variables by betting", 2024). Let X_1, X_2, ... be independent with
    means of at most 0 and X_i >= -L, and let the bets b_i in [0, 1 / L] depend on X_1, ..., X_(i-1) alone. Then the
    wealth K_i = (1 + b_1 X_1) ... (1 + b_i X_i) is a nonnegative supermartingale that begins at 1, and the probability
    that it ever reaches 1 / delta is at most delta. So when it does, a mean of at most 0 is refuted.

    The bets are those that reach 1 / delta by the n-th draw as often as any can, were the sum of the gains a Brownian
    motion with drift (S. Browne, "Reaching goals by a deadline: digital options and continuous-time active portfolio
    management", 1999): the wealth then is the price of an option that pays 1 / delta if the sum passes the normal quantile,
    and the bet is its hedge, h(z) / (s sqrt(r)). Here r draws are left, s^2 is the mean square so far, delta K = 1 - Phi(z)
    and h = phi / (1 - Phi). With sqrt(2 log(1 / (delta K))) for h(z), which is what h grows like, they are the bets of
    V. Voracek and F. Orabona, "STaR-Bets", 2025, but for how s^2 is estimated and for a last draw of lots there. Validity
    rests on nothing that is estimated.

    The order of the draws must not depend on their values.
    """
    none, one = np.zeros(0, np.int64), np.ones(1, np.int64)
    return shown_steps(gains, np.ones(len(gains), np.int64), places=none, changes=np.zeros(0), joining=False, ends=0 * one,
                       caps=one, loss=most_loss, delta=delta, guess=guess) == 1


def shown_steps(sums: Floats, members: Ints, *, places: Ints, changes: Floats, joining: bool, ends: Ints, caps: Ints,
                loss: float, delta: float, guess: Guess) -> int:
    """How many steps of a fixed sequence of hypotheses are shown, one after the other, before the first that is not.

    Draw i is of a unit of members[i] members, whose gains, none below -loss, add up to sums[i]. Step j takes each unit for
    caps[j] members at most: it says that the mean over units of sum * min(1, caps[j] / members) is above 0, after the
    first ends[j] changes were made. Change c adds changes[c] to the sum at places[c] and, with `joining`, a member. ends
    (steps,) rises. Tested as in `shows_gain`, whose conditions hold at each step. The hypotheses, their order, the caps and
    the guess must not depend on what is tested.

    Theorem (W. Maurer, L. A. Hothorn and W. Lehmacher, "Multiple comparisons in drug clinical trials and preclinical assays:
    a-priori ordered hypotheses", 1995; for thresholds A. N. Angelopoulos et al., "Learn then Test", 2021). Hypotheses in an
    order that was fixed before the data are tested one by one, each at level delta, until one is not rejected: the
    probability that any true one is among the rejected is at most delta, since the first true one must be.
    """
    if not (0 < delta < 1 and loss > 0):
        raise ValueError(f"expected delta between 0 and 1 and a loss above 0, got {delta} and {loss}")
    return int(_shown_steps(sums.astype(np.float64), members.astype(np.int64), places, changes, joining, ends, caps, loss,
                            math.log(1 / delta), guess.square, guess.weight, _hazards()))


@cache
def _hazards() -> Floats:
    """h(z) by -log(1 - Phi(z)) in even steps."""
    from scipy.special import log_ndtr, ndtri_exp

    heights = np.arange(0, _TABLE_TO + _TABLE_STEP, _TABLE_STEP)
    z = -ndtri_exp(-np.maximum(heights, 1e-9))
    hazards: Floats = np.exp(-z * z / 2 - math.log(math.sqrt(2 * math.pi)) - log_ndtr(-z))
    return hazards


@compiled
def _shown_steps(sums: Floats, members: Ints, places: Ints, changes: Floats, joining: bool, ends: Ints, caps: Ints,
                 loss: float, goal: float, square: float, weight: float, hazards: Floats) -> int:
    done = 0
    for step in range(ends.size):
        while done < ends[step]:
            sums[places[done]] += changes[done]
            if joining:
                members[places[done]] += 1
            done += 1
        if not _reaches(sums, members, caps[step], loss, goal, square, weight, hazards):
            return step
    return ends.size


@compiled
def _reaches(sums: Floats, members: Ints, cap: int, loss: float, goal: float, square: float, weight: float,
             hazards: Floats) -> bool:
    """Whether the logarithm of the wealth reaches `goal`."""
    squares, seen, left = square * weight, weight, goal
    for i in range(sums.size):
        gain = sums[i] if members[i] <= cap else sums[i] * cap / members[i]
        place = min(left / _TABLE_STEP, hazards.size - 1.001)
        below = int(place)
        hazard = hazards[below] + (place - below) * (hazards[below + 1] - hazards[below])
        bet = min(hazard / math.sqrt(squares / seen * (sums.size - i)), _CLIP / (loss * cap))
        if not bet * gain > -1:  # more was lost than can be
            return False
        left -= math.log1p(bet * gain)
        if left <= 0:
            return True
        squares += gain * gain
        seen += 1
    return False


def _check(share: float, delta: float) -> None:
    if not (0 < share < 1 and 0 < delta < 1):
        raise ValueError(f"share and delta must lie between 0 and 1, got {share} and {delta}")
