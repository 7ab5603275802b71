"""What an unfinished run can be ranked on: the rows that every selector shares, and what is left out and why."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from activekd.errors import InputError
from bench.columns import CONFIGURATION, LABELS
from bench.store.table import Run
from bench.terminal import gist

NAMED = 5
"""Configurations that a remark names."""


class NothingToRankError(InputError):
    """A run has no rows on which its selectors can be compared."""


@dataclass(frozen=True)
class Ranked:
    """The part of a run that can be ranked, and its oracles.

    Attributes:
        rows: of the run, under their index; without those of oracles.
        oracles: rows of oracles in the configurations, rounds and seeds of ``rows``; of a seed all or none.
        left_out: one remark on each kind of planned row that is not among them; empty for a finished run.
    """

    rows: pd.DataFrame
    oracles: pd.DataFrame
    left_out: list[str]


def ranked(run: Run) -> Ranked:
    """The rows of a run on which its selectors can be compared, and those of oracles, which are not compared.

    An oracle that is unfinished takes nothing from the ranking.

    Raises:
        NothingToRankError: there are none.
    """
    is_oracle, planned = (frame["selector"].isin(run.oracles) for frame in (run.rows, run.plan))
    if planned.all():
        names = ", ".join(sorted(run.plan["selector"].unique()))
        raise NothingToRankError(
            f"every selector is an oracle ({names}), which is not ranked; expected: also strategies that read no true "
            f"labels"
        )
    rows, left_out = _comparable(replace(run, rows=run.rows[~is_oracle], plan=run.plan[~planned]))
    oracles, more_left_out = _of_oracles(run.rows[is_oracle], run.plan[planned], rows)
    return Ranked(rows, oracles, [*left_out, *more_left_out])


def _of_oracles(found: pd.DataFrame, plan: pd.DataFrame, rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows of oracles beside ranked rows: of a (configuration, seed) all data sets and rounds, or none."""
    cells = rows[[*CONFIGURATION, "dataset", "seed", "round", "n_labeled"]].drop_duplicates()
    beside = found.merge(cells, on=[*cells.columns])
    seed = [*CONFIGURATION, "seed"]
    wanted = cells.groupby(seed).size().rename("wanted").reset_index()
    present = beside.groupby([*seed, "selector"]).size().rename("present").reset_index().merge(wanted, on=seed)
    whole = present.loc[present["present"] == present["wanted"], [*seed, "selector"]]
    kept = beside.merge(whole, on=[*whole.columns])
    left_out = []
    for name, part in plan.groupby("selector", sort=False):
        n, n_planned = kept.loc[kept["selector"] == name, "trial_id"].nunique(), part["trial_id"].nunique()
        if n < n_planned:
            left_out.append(
                f"oracle {name}: {n} of {n_planned} trials are shown, those with every data set and round that is "
                f"ranked for their seed"
            )
    return kept, left_out


def _comparable(run: Run) -> tuple[pd.DataFrame, list[str]]:
    """The rows of a run without oracles on which its selectors can be compared, and remarks on what is left out.

    A finished run is ranked whole. In an unfinished one a name without a query round is left out: a selector, a data
    set, a teacher, a student or a recipe; so is a selector whose trials were all given up. In each configuration those
    seeds and rounds remain that all other selectors share, as many (seed, query round)s as possible, and more seeds
    rather than more rounds.

    Raises:
        NothingToRankError: there are none.
    """
    queried = run.rows[run.rows["round"] >= 1]
    if run.holes.empty and not queried.empty:
        return run.rows, []
    if queried.empty:
        failed = f" ({_reason(run.plan, run.failures)})" if run.failures else ""
        raise NothingToRankError(
            f"no query round is stored: nothing to rank{failed}; expected: at least 2 rounds of a trial (run the grid)"
        )
    plan, left_out = run.plan, []
    for column in ("selector", "dataset", "teacher", "student", "recipe"):
        names = plan.drop_duplicates(column)[column].tolist()
        gone = [name for name in names if name not in set(queried[column])]
        if column == "selector":
            given_up = plan.groupby(column)["trial_id"].agg(lambda ids: set(ids) <= run.failures.keys())
            more = [name for name in names if name not in gone and given_up[name]]
            gone += more if len(gone) + len(more) < len(names) else []
        left_out += [
            f"ranked without {LABELS[column]} {name}: {_reason(run.plan[run.plan[column] == name], run.failures)}"
            for name in gone
        ]
        plan = plan[~plan[column].isin(gone)]
    rows = queried.iloc[:0]
    if not plan.empty:
        rows, more_left_out = _shared(run.rows, plan)
        left_out += more_left_out
    if rows.empty:
        raise NothingToRankError(
            "no configuration has a query round of every selector for one seed; expected: more rounds (run the grid)"
        )
    return rows, left_out


def _reason(plan: pd.DataFrame, failures: Mapping[str, str]) -> str:
    """Why these trials have no rows to rank."""
    trials = plan["trial_id"].unique()
    failed = [trial_id for trial_id in trials if trial_id in failures]
    if not failed:
        return f"no query round of its {len(trials)} trials is stored"
    return f"{len(failed)} of {len(trials)} trials failed, such as with {gist(failures[failed[0]])}"


def _shared(rows: pd.DataFrame, plan: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The seeds and rounds of each configuration that all of its planned selectors and data sets share."""
    ordered = rows.sort_values(["trial_id", "round"])
    leading = (ordered.groupby("trial_id").cumcount() == ordered["round"]).groupby(ordered["trial_id"]).sum()
    trials = plan.groupby("trial_id", sort=False).agg(
        {**dict.fromkeys([*CONFIGURATION, "seed"], "first"), "round": "size"}
    )
    trials = trials.assign(done=leading.reindex(trials.index).fillna(0).astype(int))
    kept, unranked, shares, short = [], [], set(), 0
    for key, part in trials.groupby(list(CONFIGURATION), sort=False):
        per_seed = part.groupby("seed")["done"].min()
        n_rounds = max(
            (n for n in per_seed.unique() if n >= 2), key=lambda n: ((n - 1) * (per_seed >= n).sum(), -n), default=0
        )
        if not n_rounds:
            unranked.append(" ".join(map(str, key)))
            continue
        seeds = per_seed.index[per_seed >= n_rounds]
        shares.add((len(seeds), len(per_seed)))
        short += n_rounds < part["round"].max()
        chosen = part.index[part["seed"].isin(seeds)]
        kept.append(rows[rows["trial_id"].isin(chosen) & (rows["round"] < n_rounds)])
    left_out = []
    fewer = sorted(share for share in shares if share[0] < share[1])
    if fewer:
        counts = " or ".join(f"{n} of {n_planned} seeds" for n, n_planned in sorted(shares))
        left_out.append(f"ranked on {counts}" + (", by configuration" if len(shares) > 1 else ""))
    if short:
        left_out.append(f"ranked on fewer rounds than planned: {short} of {len(kept)} configurations")
    if unranked:
        names = "; ".join(unranked[:NAMED]) + ("; ..." if len(unranked) > NAMED else "")
        left_out.append(
            f"ranked without {len(unranked)} of {len(unranked) + len(kept)} configurations, in which no seed has a "
            f"query round of every selector: {names}"
        )
    return pd.concat(kept).sort_index() if kept else rows.iloc[:0], left_out
