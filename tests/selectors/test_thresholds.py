"""GALAXY and DIRECT against cases worked by hand and plain forms: a graph with edges, loops over the ranking."""

import numpy as np
import pytest
import torch

from activekd.pool import Pool
from activekd.selectors import selector
from activekd.selectors.query import select
from activekd.selectors.thresholds import Rankings, bisection, direct, galaxy, region, threshold
from activekd.selectors.view import PoolView


def view_of(probabilities: torch.Tensor, labels: dict[int, int]) -> PoolView:
    known = np.full(len(probabilities), -1)
    known[list(labels)] = list(labels.values())
    arrays = {"student_probabilities": probabilities.float()}
    return PoolView(Pool(len(known), tuple(labels)), known, probabilities.shape[1], arrays)


def line_view(n: int, labels: dict[int, int]) -> PoolView:
    """Two classes; row r is the r-th most likely member of class 0, and the first half is predicted as such."""
    p = torch.linspace(0.95, 0.05, n)
    return view_of(torch.stack([p, 1 - p], dim=1), labels)


def random_view(seed: int, n: int = 50, classes: int = 4, labeled: int = 8) -> PoolView:
    """Multiples of 1/1024, of which float32 takes exact differences; most labels are the prediction."""
    rng = np.random.default_rng(seed)
    rows = rng.multinomial(1024, rng.dirichlet(np.full(classes, 0.7), size=n)) / 1024
    some = rng.choice(n, size=labeled, replace=False).tolist()
    labels = {row: int(rows[row].argmax() if rng.random() < 0.7 else rng.integers(classes)) for row in some}
    return view_of(torch.from_numpy(rows), labels)


def plain_ranking(view: PoolView, label: int) -> list[int]:
    """Rows with the class on top by confidence, then the others by margin; ties to the lowest row."""
    p = view.student_probabilities.double().tolist()
    on_top = [row for row in range(len(p)) if p[row][label] == max(p[row])]
    others = [row for row in range(len(p)) if p[row][label] < max(p[row])]
    by_confidence = sorted(on_top, key=lambda row: -p[row][label])
    return by_confidence + sorted(others, key=lambda row: max(p[row]) - p[row][label])


def test_ranking_by_hand() -> None:
    # For class 0: rows 3 and 1 have it on top, 3 with more confidence. Margins of the others: row 0 0.3 - 0.6, row 2
    # 0.4 - 0.5, row 4 as row 0.
    rows = [[0.3, 0.6, 0.1], [0.4, 0.3, 0.3], [0.4, 0.5, 0.1], [0.8, 0.1, 0.1], [0.3, 0.1, 0.6]]
    assert Rankings(view_of(torch.tensor(rows), {})).of_class(0).tolist() == [3, 1, 2, 0, 4]


def test_bisection_takes_the_middle_of_the_shortest_stretch() -> None:
    # Between 1 and 0 lie four unknown images and, behind, two: of two the one nearer to the front.
    assert bisection(np.array([1, -1, -1, -1, -1, 0, -1, -1, 1]), 1) == 6
    # The stretch between two members is none to bisect.
    assert bisection(np.array([1, -1, 1, -1, -1, -1, 2]), 1) == 4


def test_bisection_queries_both_sides_of_a_cut_that_is_found() -> None:
    known = np.array([-1, -1, -1, 1, 0, -1, -1, -1])
    places = []
    for _ in range(6):
        place = bisection(known, 1)
        assert place is not None
        places.append(place)
        known[place] = int(place < 4)
    assert places == [2, 5, 1, 6, 0, 7]


def test_bisection_needs_labels_of_both_kinds() -> None:
    assert bisection(np.array([-1, 1, -1, 1]), 1) is None
    assert bisection(np.array([-1, 0, -1, 2]), 1) is None
    assert bisection(np.array([-1, -1]), 1) is None


def by_graph(known: np.ndarray, label: int) -> int | None:
    """A chain with links over ever larger distances, those between both kinds cut: the middle of a shortest path."""
    n = len(known)
    member, other = (known == label), (known != label) & (known >= 0)
    if not member.any() or not other.any():
        return None
    unknown = known < 0
    for order in range(1, n):
        linked = np.abs(np.subtract.outer(np.arange(n), np.arange(n))) <= order
        linked &= ~(np.outer(member, other) | np.outer(other, member))
        distance, reached, paths = 0, member.copy(), {int(m): [int(m)] for m in np.flatnonzero(member)}
        while not (reached & other).any() and distance <= n:
            for place in np.flatnonzero(linked[reached].any(axis=0) & ~reached).tolist():
                before = min(np.flatnonzero(linked[place] & reached).tolist(), key=lambda b: abs(b - place))
                paths[place] = [*paths[before], place]
            reached, distance = reached | linked[reached].any(axis=0), distance + 1
        if not (reached & other).any():
            continue
        if order == 1:
            ends = np.flatnonzero(reached & other).tolist()
            inner = [sorted([*range(min(p), max(p) + 1)])[1:-1] for p in (paths[end] for end in ends)]
            best = min(inner, key=lambda some: (len(some), some[0]))
            return best[(len(best) - 1) // 2]
        assert distance == 2
        middles = unknown & linked[member].any(axis=0) & linked[other].any(axis=0)
        return int(np.flatnonzero(middles)[0])
    raise AssertionError("an unknown image is linked to both kinds")


@pytest.mark.parametrize("seed", range(60))
def test_bisection_equals_the_shortest_path_in_the_graph(seed: int) -> None:
    rng = np.random.default_rng(seed)
    known = np.where(rng.random(14) < rng.uniform(0.1, 0.9), rng.integers(3, size=14), -1)
    while (known < 0).any():
        place = bisection(known, 1)
        assert place == by_graph(known, 1)
        if place is None:
            break
        known[place] = rng.integers(3)


def test_galaxy_by_hand() -> None:
    # The chain of class 0 is the rows in their order, that of class 1 the reverse. Labels at both ends: of the eight
    # unknown rows between them the 4th from the front of the chain is picked, which the student predicts as the class
    # of that end. The other class then bisects what is left between the two kinds.
    view = line_view(10, {0: 0, 9: 1})
    picks = {tuple(galaxy(view, 3, rng=np.random.default_rng(seed)).tolist()) for seed in range(20)}
    # Class 0 first: row 4 counts as class 0. Class 1: rows 8 to 5 from its front, so 7, as class 1. Class 0: 5 of 5, 6.
    # Class 1 first: row 5 counts as class 1. Class 0: rows 1 to 4, so 2, as class 0. Class 1: 4 of 4, 3.
    assert picks == {(4, 7, 5), (5, 2, 4)}


def test_galaxy_without_labels_is_random() -> None:
    view = line_view(10, {})
    first = [int(galaxy(view, 1, rng=np.random.default_rng(seed))[0]) for seed in range(1000)]
    assert np.bincount(first, minlength=10).tolist() == pytest.approx([100] * 10, abs=40)


def plain_galaxy(view: PoolView, query_size: int, rng: np.random.Generator) -> list[int]:
    p = view.student_probabilities.double().tolist()
    known = view.labels.copy()
    left = view.pool.unlabeled.tolist()
    turns = rng.permutation(view.n_classes).tolist()
    picks: list[int] = []
    for k in range(query_size):
        ranking = plain_ranking(view, turns[k % len(turns)])
        place = by_graph(known[ranking], turns[k % len(turns)])
        picks.append(left[int(rng.integers(len(left)))] if place is None else ranking[place])
        left.remove(picks[-1])
        known[picks[-1]] = p[picks[-1]].index(max(p[picks[-1]]))
    return picks


@pytest.mark.parametrize("labeled", [0, 2, 8])
@pytest.mark.parametrize("seed", range(4))
def test_galaxy_picks_what_the_plain_form_picks(seed: int, labeled: int) -> None:
    view = random_view(seed, n=30, labeled=labeled)
    for query_size in (3, 12, 30 - labeled):
        picks = select(selector("galaxy"), view, query_size, rng=np.random.default_rng(seed))
        assert picks.tolist() == plain_galaxy(view, query_size, np.random.default_rng(seed))


def test_region_and_threshold_by_hand() -> None:
    separable = np.array([-1, 1, -1, -1, 0, -1])
    assert region(separable, 1) == (1, 4)
    assert threshold(separable, 1) == 3
    mixed = np.array([1, -1, 0, -1, 1, 1, -1, 0, -1])
    assert region(mixed, 1) == (0, 7)
    assert threshold(mixed, 1) == 6
    # 1, 0, 1: the thresholds behind the first and behind the third label are both wrong once; the first one is taken.
    assert threshold(np.array([1, 0, -1, 1, -1]), 1) == 1
    assert (region(np.array([-1, -1, 0, 2, -1]), 1), threshold(np.array([-1, -1, 0, 2, -1]), 1)) == ((0, 2), 1)
    assert (region(np.array([-1, 1, 1, -1]), 1), threshold(np.array([-1, 1, 1, -1]), 1)) == ((2, 3), 3)
    assert (region(np.full(3, -1), 1), threshold(np.full(3, -1), 1)) == ((0, 2), 1)


def test_direct_by_hand() -> None:
    # Class 0 has the labels of rows 3 and 4, class 1 those of rows 7 and 11. Both regions are rows 4 to 7, of which 5
    # and 6 are unknown: a share of one each takes both. Both thresholds lie between 5 and 6. Row 8 is nearest to it, as
    # rows 4 and 7 are labeled. What remains are rows 2 and 9 at an equal distance: each class prefers its own side.
    view = line_view(12, {3: 0, 4: 0, 7: 1, 11: 1})
    draws = [direct(view, 4, rng=np.random.default_rng(seed)).tolist() for seed in range(20)]
    assert all(sorted(picks[:2]) == [5, 6] for picks in draws)
    # Class 0 first: 8, and class 1 takes 9. Class 1 first: 8, and class 0 takes 2.
    assert {tuple(picks[2:]) for picks in draws} == {(8, 9), (8, 2)}


def test_direct_draws_uniformly_inside_the_region() -> None:
    # One label a class, at rows 2 and 9: the region of both classes holds the unknown rows 3 to 8, in halves of 1 of 2.
    view = line_view(12, {2: 0, 9: 1})
    first = [int(direct(view, 2, rng=np.random.default_rng(seed))[0]) for seed in range(1200)]
    assert np.bincount(first, minlength=12).tolist() == pytest.approx([0, 0, 0, *[200] * 6, 0, 0, 0], abs=45)


def test_direct_explores_the_class_with_the_fewest_labels() -> None:
    # Class 1 has one label, class 0 three: the half of one row goes to the region of class 1, which is rows 3 to 10.
    # The other half goes to the threshold of class 0, the middle of rows 3 to 10: between rows 6 and 7.
    view = line_view(12, {0: 0, 1: 0, 2: 0, 11: 1})
    for seed in range(20):
        first, second = direct(view, 2, rng=np.random.default_rng(seed)).tolist()
        assert 3 <= first <= 10
        assert second == (7 if first == 6 else 6)


def plain_direct(view: PoolView, query_size: int, rng: np.random.Generator) -> list[int]:
    labels, n = view.labels.tolist(), len(view.labels)
    turns = rng.permutation(view.n_classes).tolist()
    rarest = sorted(turns, key=labels.count)
    picks: list[int] = []

    def shares(total: int, order: list[int]) -> dict[int, int]:
        parts = dict.fromkeys(order, 0)
        for k in range(total):
            parts[order[k % len(order)]] += 1
        return parts

    for c, share in shares(query_size // 2, rarest).items():
        ranking = plain_ranking(view, c)
        first, last = 0, n - 1
        for place, row in enumerate(ranking):
            if labels[row] == c:
                first = place
            elif labels[row] >= 0:
                break
        for place, row in reversed(list(enumerate(ranking))):
            if labels[row] == c:
                break
            if labels[row] >= 0:
                last = place
        if share:
            inside = [row for row in ranking[first : last + 1] if labels[row] < 0 and row not in picks]
            picks += rng.choice(inside, size=min(share, len(inside)), replace=False).tolist()
    for c, share in shares(query_size - len(picks), rarest[::-1]).items():
        ranking = plain_ranking(view, c)
        errors = [
            sum(0 <= labels[row] != c for row in ranking[:at]) + sum(labels[row] == c for row in ranking[at:])
            for at in range(n + 1)
        ]
        first = last = errors.index(min(errors))
        while last < n and errors[last + 1] == errors[first]:
            last += 1
        left = right = (first + last) // 2
        taken: list[int] = []
        while len(taken) < share:
            left -= 1
            for place in (left, right):
                row = ranking[place] if 0 <= place < n else None
                if row is not None and labels[row] < 0 and row not in picks + taken and len(taken) < share:
                    taken.append(row)
            right += 1
        picks += taken
    return picks


@pytest.mark.parametrize("labeled", [0, 3, 8])
@pytest.mark.parametrize("seed", range(6))
def test_direct_picks_what_the_plain_form_picks(seed: int, labeled: int) -> None:
    view = random_view(seed, labeled=labeled)
    for query_size in (1, 4, 13, 50 - labeled):
        picks = select(selector("direct"), view, query_size, rng=np.random.default_rng(seed))
        assert picks.tolist() == plain_direct(view, query_size, np.random.default_rng(seed))
