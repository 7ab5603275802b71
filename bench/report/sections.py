"""What a report says, section by section, from the frames of ``stats``, ``claims`` and ``published``."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from bench import plots, stats
from bench.report.cells import (
    CONFIGURATION_HEADER,
    GAIN_HEADER,
    MEASURES,
    Section,
    Table,
    against,
    configuration,
    count,
    gain_cells,
    interval,
    known_interval,
    p_value,
    percent,
    points,
    rank_parts,
)
from bench.stats.claims import LEADER
from bench.stats.hypotheses import DIFFERENCES, MOST_SEEDS

MANY_ROWS = 24
"""Tables with more rows are folded."""

SAID_OF_CURVES = (
    "Mean test accuracy over seeds; intervals are 95% Student t. On the page a click on a selector shows its interval."
)

Frames = Mapping[str, pd.DataFrame]


def sections(frames: Frames, conclusions: Mapping[str, str], figures: list[str], control: str) -> list[Section]:
    """All sections below the first screen, without those of which a run has nothing to tell."""
    found = [
        _claims(frames, conclusions),
        Section(
            "Learning curves",
            [SAID_OF_CURVES],
            figures=[stem for stem in figures if stem.startswith("curves_")],
        ),
        _differences(frames, figures, control),
        _wins(frames, figures),
        _areas(frames, control),
        Section(
            "Ranks by teacher and stage",
            tables=[
                *rank_parts(frames["rank_table_by_teacher"], ["teacher", "distillation"]),
                *rank_parts(frames["rank_table_by_stage"], ["stage"]),
            ],
        ),
        _gains(frames, figures),
        _saved(frames),
        _diagnostics(frames, figures),
        _costs(frames, figures),
        _seeds(frames),
        _recipes(frames),
        published_section(frames["published"]),
    ]
    return [section for section in found if section is not None]


def _table(header: list[str], rows: list[list[str]], title: str = "") -> Table:
    return Table(header, rows, title, folded=len(rows) > MANY_ROWS)


def _claims(frames: Frames, conclusions: Mapping[str, str]) -> Section | None:
    if not conclusions:
        return None
    lead = [
        [c["group"], c["student"], c["selector"], points(c["difference"]), interval(c["low"], c["high"]), c["verdict"]]
        for c in frames["claim_lead"].to_dict("records")
    ]
    lift = [
        [
            *(c["group"], c["student"]),
            plots.teacher_label(c["teacher"], c["distillation"]),
            str(c["round"]),
            *(percent(c["with_teacher"]), percent(c["without"])),
            *(points(c["difference"]), interval(c["low"], c["high"]), c["verdict"]),
        ]
        for c in frames["claim_lift"].to_dict("records")
    ]
    lead_header = ["data", "student", "PCoreSet against", "difference in points", "95% interval", "verdict"]
    lift_header = ["data", "student", "teacher", "round", "with teacher", "without", *GAIN_HEADER, "verdict"]
    later = "Rounds after the first two queries, with a teacher; paired differences, 95% interval over seeds"
    tables = [_table(lead_header, lead, later), _table(lift_header, lift, "First and last round")]
    said = [f"{claim}: {conclusion}" for claim, conclusion in conclusions.items()]
    return Section("The paper's two claims on this run", points=said, tables=[t for t in tables if t.rows])


def _differences(frames: Frames, figures: list[str], control: str) -> Section | None:
    if frames["mean_ranks"].empty:
        return None
    friedman = [
        [
            *(str(f[c]) for c in ("round", "n_blocks", "n_datasets", "n_selectors")),
            f"{f['statistic']:.2f}",
            *(p_value(f["p"]), p_value(f["f_p"])),
            f"{f['critical_difference']:.2f}",
            f["left_out"] or "none",
        ]
        for f in frames["friedman"].to_dict("records")
    ]
    wilcoxon = [
        [
            *(w["measure"], w["selector"], str(w["n_blocks"]), points(w["median_difference"])),
            *(f"{w['statistic']:g}", p_value(w["p"]), p_value(w["p_holm"]), "yes" if w["apart"] else "no"),
        ]
        for w in frames["wilcoxon"].to_dict("records")
    ]
    tables = [
        _table(
            [
                *("round", "blocks", "data sets", "selectors", "chi-squared", "p", "p of Iman and Davenport"),
                *("critical difference", "left out"),
            ],
            friedman,
            "Friedman's test that all selectors have equal ranks",
        ),
        _table(
            ["measure", "selector", "blocks", "median difference", "W", "p", "p after Holm", "apart at 5%"],
            wilcoxon,
            f"Wilcoxon's signed-rank test against {control}, Holm's correction",
        ),
    ]
    said = (
        "A block is a (configuration, data set), its seeds averaged. A bar joins selectors that Nemenyi's test does "
        "not tell apart. Blocks that share data or a teacher are not independent, so that p values are too small "
        "rather than too large."
    )
    return Section(
        "Critical differences", [said], tables=[t for t in tables if t.rows], figures=_there(figures, "ranks_cd")
    )


def _wins(frames: Frames, figures: list[str]) -> Section | None:
    if frames["improvement"].empty:
        return None
    rows = [
        [
            i["selector"],
            i["against"],
            percent(i["probability"]),
            _percents(i["low"], i["high"]),
            str(i["n_configurations"]),
        ]
        for i in frames["improvement"].to_dict("records")
    ]
    header = ["selector", "against", "probability", "95% over seeds", "configurations"]
    title = "Probability that a run of the selector ends with a larger area than a run of the other"
    return Section("Wins", tables=[_table(header, rows, title)], figures=_there(figures, "wins"))


def _areas(frames: Frames, control: str) -> Section:
    standing = [
        [*configuration(s), *(s[place] or "none" for place in ("above", "level", "below"))]
        for s in stats.standing(frames["areas"], LEADER).to_dict("records")
    ]
    rows = [
        [
            *configuration(a),
            *(a["selector"], percent(a["area"])),
            *(against(a, reference) for reference in stats.REFERENCES),
            f"{1000 * a['seconds_per_pick']:.2f}",
        ]
        for a in frames["areas"].to_dict("records")
    ]
    pairs = [
        [
            *configuration(p),
            *(p["selector"], p["over"], str(p["n"]), points(p["difference"]), known_interval(p["low"], p["high"])),
            known_interval(p["bootstrap_low"], p["bootstrap_high"]),
        ]
        for p in frames["paired_areas"].to_dict("records")
    ]
    references = [f"against {reference}, points (95% interval)" for reference in stats.REFERENCES]
    tables = [
        _table([*CONFIGURATION_HEADER, f"better than {LEADER}", "not told apart", "worse"], standing),
        _table(
            [*CONFIGURATION_HEADER, "selector", "area", *references, "ms a pick"],
            rows,
            "Per configuration and selector",
        ),
        _table(
            [*CONFIGURATION_HEADER, "selector", "over", "n", "difference", "95% Student t", "95% bootstrap"],
            pairs,
            f"Differences from {control} in points: over seeds, and over data sets",
        ),
    ]
    said = (
        "Mean accuracy over the labels bought; paired differences, 95% interval over seeds. Intervals over seeds tell "
        "what other seeds would give, intervals over data sets what other data sets would."
    )
    return Section("Area under the budget curve", [said], tables=[t for t in tables if t.rows])


def _gains(frames: Frames, figures: list[str]) -> Section:
    if frames["gain_summary"].empty:
        return Section("Gain of distillation", ["The run has no pair of configurations with and without a teacher."])
    summary = [
        [
            plots.teacher_label(g["teacher"], g["distillation"]),
            str(g["round"]),
            *(percent(g[c]) for c in ("with_teacher", "without", "teacher_accuracy")),
            *gain_cells(g),
        ]
        for g in frames["gain_summary"].to_dict("records")
    ]
    by_student = [
        [*configuration(g), str(g["round"]), *gain_cells(g)] for g in frames["gain_by_student"].to_dict("records")
    ]
    by_selector = [
        [g["selector"], plots.teacher_label(g["teacher"], g["distillation"]), *gain_cells(g)]
        for g in frames["gain_by_selector"].to_dict("records")
    ]
    split = [
        [g["group"], g["student"], g["teacher"], g["recipe"], g["selector"], g["distillation"], *gain_cells(g)]
        for g in frames["gain_split"].to_dict("records")
    ]
    tables = [
        _table(["teacher", "round", "with teacher", "without", "teacher alone", *GAIN_HEADER], summary),
        _table(["selector", "teacher", *GAIN_HEADER], by_selector, "Per selector, query rounds"),
        _table([*CONFIGURATION_HEADER, "selector", "distilled on", *GAIN_HEADER], split, "By the images distilled on"),
        _table([*CONFIGURATION_HEADER, "round", *GAIN_HEADER], by_student, "Per data set and student"),
    ]
    said = (
        "Accuracy with the teacher minus accuracy without: mean over data sets, students and selectors, 95% interval "
        "over seeds."
    )
    return Section(
        "Gain of distillation", [said], tables=[t for t in tables if t.rows], figures=_there(figures, "gain")
    )


def _saved(frames: Frames) -> Section | None:
    found = frames["labels_saved"]
    if found.empty:
        return None
    last = found[found["round"] == found.groupby(list(stats.CONFIGURATION))["round"].transform("max")]
    rows = [
        [
            *configuration(s),
            *(s["selector"], f"{s['n_labeled']:g}", percent(s["accuracy"])),
            f"{'> ' if s['beyond'] else ''}{s['reference_labels']:.0f}",
            f"{'> ' if s['beyond'] else ''}{s['saved']:+.0f}",
        ]
        for s in last.to_dict("records")
    ]
    header = [*CONFIGURATION_HEADER, "selector", "labels", "accuracy", "labels of random", "saved"]
    said = (
        "How many labels random needs for the accuracy that a selector has in the last round, on the line through its "
        "mean accuracies; a bound where random never gets there."
    )
    return Section("Labels saved", [said], tables=[_table(header, rows)])


def _diagnostics(frames: Frames, figures: list[str]) -> Section:
    found = frames["diagnostics"]
    title = "Diagnostics"
    overlap = frames["overlap"]
    last = overlap[overlap["round"] == overlap["round"].max()] if len(overlap) else overlap
    shared = _table(
        ["selector", "against", "labels in common", "pairs of runs"],
        [[o["selector"], o["against"], percent(o["overlap"]), str(o["n"])] for o in last.to_dict("records")],
        "Share of the bought labels that two selectors have in common after the last query",
    )
    if found.empty:
        said = "The rows were made without diagnostics of the networks; what the picks have in common is known."
        return Section(title, [said], tables=[shared] if shared.rows else [])
    means = found.groupby(["measure", "selector"])["mean"].mean()
    selectors = sorted(found["selector"].unique())
    rows = [
        [name, *(f"{means[column, selector]:.3f}" for selector in selectors)]
        for column, name in MEASURES.items()
        if column in means.index.get_level_values(0)
    ]
    said = (
        "Means over rounds, configurations and seeds. Entropies are shares of the largest possible; diversity is the "
        "mean distance from the nearest other pick over that of a random draw; a teacher's mistake is confident from "
        "80% on. Labels that were not bought are read here, and by no selector."
    )
    tables = [_table(["measure", *selectors], rows), shared]
    return Section(title, [said], tables=[t for t in tables if t.rows], figures=_there(figures, "diagnostics"))


def _costs(frames: Frames, figures: list[str]) -> Section:
    overall = [
        [p["selector"], f"{p['seconds']:.2f}", points(p["area"]), "yes" if p["on_front"] else "no"]
        for p in frames["pareto_overall"].to_dict("records")
    ]
    rows = [
        [
            c["student"],
            plots.teacher_label(c["teacher"], "both"),
            c["selector"],
            *("" if pd.isna(c[s]) else f"{c[s]:.3f}" for s in stats.COSTS),
            f"{c['peak_rss_bytes'] / 1e6:.0f}",
        ]
        for c in frames["costs"].to_dict("records")
    ]
    seconds = [name.removesuffix("_seconds") + ", s" for name in stats.COSTS]
    tables = [
        _table(["selector", "relative seconds", "area, points above the mean", "on the Pareto front"], overall),
        _table(["student", "teacher", "selector", *seconds, "peak MB"], rows, "Seconds and memory of a round"),
    ]
    return Section(
        "Costs",
        ["Seconds and areas of whole runs, relative to the mean over the selectors of the same configuration."],
        tables=tables,
        figures=_there(figures, "costs"),
    )


def _seeds(frames: Frames) -> Section | None:
    found = frames["seeds_needed"]
    if found.empty:
        return None
    rows = [
        [
            *configuration(s),
            *(s["measure"], f"{100 * s['spread']:.2f}" if pd.notna(s["spread"]) else "one seed", str(s["n_seeds"])),
            *("" if pd.isna(s["spread"]) else count(s[f"seeds_for_{d:g}"], MOST_SEEDS) for d in DIFFERENCES),
        ]
        for s in found.to_dict("records")
    ]
    header = [
        *CONFIGURATION_HEADER,
        *("measure", "spread in points", "seeds here"),
        *(f"seeds for {100 * d:g} points" for d in DIFFERENCES),
    ]
    said = "Seeds that a paired t test at 5% needs to find a difference of a given size with 80% probability."
    return Section("Seeds that a difference needs", [said], tables=[_table(header, rows)])


def _recipes(frames: Frames) -> Section | None:
    found = frames["recipes"]
    if found.empty:
        return None
    names = [name for name in found.columns if name not in {"group", "teacher", "student", "distillation", "selector"}]
    rows = [
        [
            *configuration({**r, "recipe": ""})[:3],
            r["selector"],
            *(percent(r[name]) for name in names),
        ]
        for r in found.to_dict("records")
    ]
    said = (
        "Areas of the same configuration under several recipes. A recipe whose steps are fixed spends equal compute in "
        "every round; one whose steps grow with the labels does not."
    )
    return Section(
        "Recipes side by side", [said], tables=[_table(["data", "student", "teacher", "selector", *names], rows)]
    )


def published_section(pairs: pd.DataFrame) -> Section | None:
    """Published numbers beside ours: notes of the sources, a line a configuration, and the cells.

    Args:
        pairs: ``published.beside``.
    """
    if pairs.empty:
        return None
    notes, said, tables = [], [], []
    header = [
        *CONFIGURATION_HEADER,
        "selector",
        "round",
        "ours",
        "95% interval",
        "theirs",
        "difference",
        "intervals meet",
    ]
    for source, part in pairs.groupby("source", sort=False):
        notes += [f"{source}: {note}" for note in part["note"].unique() if note]
        for (student, recipe, teacher), some in part.groupby(["student", "recipe", "teacher"]):
            difference = 100 * some["difference"]
            said.append(
                f"{source}, {student}, {recipe}, {plots.teacher_label(str(teacher), 'both')}: ours minus theirs is "
                f"{difference.mean():+.1f} points on average over {len(some)} cells, {difference.min():+.1f} to "
                f"{difference.max():+.1f}; in {int((~some['apart']).sum())} of them the intervals meet"
            )
        rows = [_published_row(p) for p in part.to_dict("records")]
        tables.append(_table(header, rows, f"{source}, cell by cell"))
    return Section("Published numbers beside ours", notes, said, tables)


def _published_row(pair: Mapping[Any, Any]) -> list[str]:
    return [
        *configuration({**pair, "distillation": "both"}),
        *(pair["selector"], str(pair["round"]), percent(pair["accuracy"])),
        "one seed" if pd.isna(pair["low"]) else _percents(pair["low"], pair["high"]),
        percent(pair["theirs"]) + ("" if pd.isna(pair["their_half_width"]) else f" ± {pair['their_half_width']:.1%}"),
        *(points(pair["difference"]), "no" if pair["apart"] else "yes"),
    ]


def _percents(low: float, high: float) -> str:
    return "one seed" if pd.isna(low) else f"{low:.1%} to {high:.1%}"


def _there(figures: list[str], stem: str) -> list[str]:
    return [stem] if stem in figures else []
