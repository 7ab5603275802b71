"""What a report says, as rows of strings: from the frames of ``stats``, ``claims``, ``areas`` and ``published``."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from bench import areas, claims, plots, stats
from bench.store import Run

HOLES_SHOWN = 10
RANK_HEADER = ["selector", "first", "of these tied", "settings", "mean rank", "mean accuracy"]
GAIN_HEADER = ["gain in points", "95% interval"]


def content(
    run: Run, rows: pd.DataFrame, frames: Mapping[str, pd.DataFrame], figures: list[str], holes: list[str]
) -> dict[str, Any]:
    """Everything that the templates show, by its name in them."""
    ranked, table, margins = frames["ranks"], frames["rank_table"], frames["margins"]
    n, extra = stats.n_settings(ranked), stats.extra_firsts(ranked)
    seconds = list(stats.COSTS)
    return {
        "name": run.name,
        "facts": {
            "data sets": ", ".join(sorted(rows["dataset"].unique())),
            "teachers": ", ".join(plots.teacher_label(t, "both") for t in sorted(rows["teacher"].unique())),
            "students": ", ".join(sorted(rows["student"].unique())),
            "selectors": ", ".join(sorted(rows["selector"].unique())),
            "seeds": ", ".join(str(s) for s in sorted(rows["seed"].unique())),
            "trials": f"{rows['trial_id'].nunique():,}",
            "rounds": f"{len(rows):,}",
            "protocol": str(rows["protocol"].iloc[0]),
            "compute": f"{rows[seconds].to_numpy().sum() / 60:.1f} minutes of one core in trials",
        },
        "headline": stats.headline(table),
        "rank_header": RANK_HEADER,
        "rank_cells": rank_cells(table),
        "counts": (
            f"A setting is a configuration (data set or group, teacher, student, recipe) at a query round; the shared "
            f"round 0 is left out. First places add up to {int(table['first'].sum())} = {n} settings + {extra} more "
            f"for ties. In {int((~margins['overlap']).sum())} of {len(margins)} settings the interval of the first "
            f"lies above that of the second; a first place elsewhere is no proof of a difference."
        ),
        "by_part": [
            *_parts(frames["rank_table_by_teacher"], ["teacher", "distillation"]),
            *_parts(frames["rank_table_by_stage"], ["stage"]),
        ],
        "summary_header": ["teacher", "round", "with teacher", "without", "teacher alone", *GAIN_HEADER],
        "summary_cells": [
            [
                plots.teacher_label(g["teacher"], g["distillation"]),
                g["round"],
                *(f"{g[c]:.1%}" for c in ("with_teacher", "without", "teacher_accuracy")),
                *_gain_cells(g),
            ]
            for g in frames["gain_summary"].to_dict("records")
        ],
        "gain_header": ["data set", "student", "teacher", "round", *GAIN_HEADER],
        "gain_cells": [
            [
                g["group"],
                g["student"],
                plots.teacher_label(g["teacher"], g["distillation"]),
                g["round"],
                *_gain_cells(g),
            ]
            for g in frames["gain_by_student"].to_dict("records")
        ],
        "claims": claims.conclusions(rows),
        "lead_header": ["group", "student", "PCoreSet against", "difference in points", "95% interval", "verdict"],
        "lead_cells": [
            [
                *(c["group"], c["student"], c["selector"]),
                f"{100 * c['difference']:+.1f}",
                interval(c["low"], c["high"]),
                c["verdict"],
            ]
            for c in frames["claim_lead"].to_dict("records")
        ],
        "lift_header": ["group", "student", "teacher", "round", "with teacher", "without", *GAIN_HEADER, "verdict"],
        "lift_cells": [
            [
                *(c["group"], c["student"]),
                plots.teacher_label(c["teacher"], c["distillation"]),
                c["round"],
                f"{c['with_teacher']:.1%}",
                f"{c['without']:.1%}",
                f"{100 * c['difference']:+.1f}",
                interval(c["low"], c["high"]),
                c["verdict"],
            ]
            for c in frames["claim_lift"].to_dict("records")
        ],
        "standing_header": [
            *("group", "student", "teacher", "recipe"),
            *("better than pcoreset", "not told apart", "worse"),
        ],
        "standing_cells": [
            [
                *(s["group"], s["student"], plots.teacher_label(s["teacher"], s["distillation"]), s["recipe"]),
                *(s[place] or "none" for place in ("above", "level", "below")),
            ]
            for s in areas.standing(frames["areas"], claims.LEADER).to_dict("records")
        ],
        "area_header": [
            *("group", "student", "teacher", "recipe", "selector", "area"),
            *(f"against {reference}, points (95% interval)" for reference in areas.REFERENCES),
            "ms a pick",
        ],
        "area_cells": [
            [
                *(a["group"], a["student"], plots.teacher_label(a["teacher"], a["distillation"]), a["recipe"]),
                a["selector"],
                f"{a['area']:.1%}",
                *(_against(a, reference) for reference in areas.REFERENCES),
                f"{1000 * a['seconds_per_pick']:.2f}",
            ]
            for a in frames["areas"].to_dict("records")
        ],
        "published_header": [
            *("group", "student", "recipe", "teacher", "selector", "round", "ours", "95% interval", "theirs"),
            *("difference in points", "intervals meet"),
        ],
        "published": published_parts(frames["published"]),
        "cost_header": [
            "student",
            "teacher",
            "selector",
            *(c.removesuffix("_seconds") + ", s" for c in seconds),
            "peak MB",
        ],
        "cost_cells": [
            [
                c["student"],
                plots.teacher_label(c["teacher"], "both"),
                c["selector"],
                *(f"{c[s]:.3f}" for s in seconds),
                f"{c['peak_rss_bytes'] / 1e6:.0f}",
            ]
            for c in frames["costs"].to_dict("records")
        ],
        "figures": figures,
        "one_seed": len(rows["seed"].unique()) == 1,
        "holes": holes[:HOLES_SHOWN],
        "n_holes": len(run.holes),
        "n_planned": len(run.plan),
        "provenance": {c: sorted(rows[c].unique()) for c in ("commit", "versions", "device")},
    }


def _against(area: Mapping[Any, Any], reference: str) -> str:
    difference = area[f"against_{reference}"]
    if pd.isna(difference):
        return ""
    return f"{100 * difference:+.1f} ({interval(area[f'against_{reference}_low'], area[f'against_{reference}_high'])})"


def published_parts(pairs: pd.DataFrame) -> list[dict[str, Any]]:
    """Published numbers beside ours: source, note, a summary line a configuration, and the cells."""
    out = []
    for source, part in pairs.groupby("source", sort=False):
        cells = [
            [
                p["group"],
                p["student"],
                p["recipe"],
                plots.teacher_label(p["teacher"], "both"),
                p["selector"],
                p["round"],
                f"{p['accuracy']:.1%}",
                "one seed" if pd.isna(p["low"]) else f"{p['low']:.1%} to {p['high']:.1%}",
                f"{p['theirs']:.1%}" + ("" if pd.isna(p["their_half_width"]) else f" ± {p['their_half_width']:.1%}"),
                f"{100 * p['difference']:+.1f}",
                "no" if p["apart"] else "yes",
            ]
            for p in part.to_dict("records")
        ]
        summaries = [
            f"{student}, {recipe}, {plots.teacher_label(str(teacher), 'both')}: ours minus theirs is "
            f"{100 * some['difference'].mean():+.1f} points on average over {len(some)} cells, "
            f"{100 * some['difference'].min():+.1f} to {100 * some['difference'].max():+.1f}; in "
            f"{int((~some['apart']).sum())} of them the intervals meet"
            for (student, recipe, teacher), some in part.groupby(["student", "recipe", "teacher"])
        ]
        out.append({"source": source, "note": part["note"].iloc[0], "summaries": summaries, "cells": cells})
    return out


def _parts(table: pd.DataFrame, by: list[str]) -> list[dict[str, Any]]:
    out = []
    for key, part in table.groupby(by):
        names = [str(k) for k in key]  # pyright: ignore[reportGeneralTypeIssues]
        title = plots.teacher_label(names[0], names[1]) if len(names) > 1 else f"{names[0]} rounds"
        out.append({"title": title, "headline": stats.headline(part), "cells": rank_cells(part)})
    return out


def _gain_cells(gain: Mapping[Any, Any]) -> list[str]:
    return [f"{100 * gain['gain']:+.1f}", interval(gain["low"], gain["high"])]


def rank_cells(table: pd.DataFrame) -> list[list[str]]:
    """The rows of a rank table under RANK_HEADER."""
    return [
        [
            str(r["selector"]),
            f"{r['first']} ({r['first_share']:.1%})",
            str(r["tied_first"]),
            str(r["settings"]),
            f"{r['mean_rank']:.2f}",
            f"{r['mean_accuracy']:.1%}",
        ]
        for r in table.to_dict("records")
    ]


def interval(low: float, high: float) -> str:
    """An interval of a difference in points; said so where one seed gives none."""
    return "one seed" if pd.isna(low) else f"{100 * low:+.1f} to {100 * high:+.1f}"


def markdown_row(cells: Iterable[object]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
