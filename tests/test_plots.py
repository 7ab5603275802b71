"""Figures: their contents, styles that do not depend on the other selectors, and equal bytes."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from activekd.selectors import SELECTORS
from bench import stats
from bench.display import Display
from bench.report.cells import with_intervals
from bench.report.figures.curves import curve_parts, learning_curves
from bench.report.figures.gains import gain_figure
from bench.report.figures.ranks import rank_figure
from bench.report.figures.style import MOST_CHARACTERS, SELECTOR_STYLES, oracle_styles, save, selector_styles, shorten

# Accuracy of each seed by (selector, round); means of the query rounds: random .55 .80 .90, pcoreset .65 .80 .70,
# mine .45 .60 .95.
THREE = {
    **{(selector, 0): (0.30, 0.30) for selector in ("random", "pcoreset", "mine")},
    ("random", 1): (0.50, 0.60),
    ("pcoreset", 1): (0.70, 0.60),
    ("mine", 1): (0.40, 0.50),
    ("random", 2): (0.80, 0.80),
    ("pcoreset", 2): (0.90, 0.70),
    ("mine", 2): (0.60, 0.60),
    ("random", 3): (0.95, 0.85),
    ("pcoreset", 3): (0.70, 0.70),
    ("mine", 3): (0.95, 0.95),
}


def make_rows(
    accuracies: dict[tuple[str, int], tuple[float, ...]] = THREE, *, plus: float = 0.0, **identity: Any
) -> pd.DataFrame:
    """The columns that curves, ranks and gains read, of one configuration and data set."""
    names = {"dataset": "d", "teacher": "none", "student": "s", "recipe": "r", **identity}
    names |= {"group": names["dataset"], "distillation": "none" if names["teacher"] == "none" else "both"}
    return pd.DataFrame(
        [
            {
                **names,
                "selector": selector,
                "round": index,
                "seed": seed,
                "n_labeled": 10 * (index + 1),
                "accuracy": accuracy + plus,
                "teacher_accuracy": 0.6,
            }
            for (selector, index), values in accuracies.items()
            for seed, accuracy in enumerate(values)
        ]
    )


@pytest.fixture
def rows() -> pd.DataFrame:
    parts = [make_rows(), make_rows(teacher="t+zeroshot", plus=0.02), make_rows(teacher="t+clap", plus=0.01)]
    return pd.concat(parts, ignore_index=True)


def curves_of(rows: pd.DataFrame) -> pd.DataFrame:
    return stats.curves(stats.seed_means(rows))


def figures(rows: pd.DataFrame) -> dict[str, Figure]:
    styles = selector_styles(rows["selector"].unique())
    curves = curves_of(rows)
    ranks = stats.ranks(curves, stats.margins(curves, stats.seed_means(rows)))
    intervals = stats.first_place_intervals(stats.seed_means(rows))
    return {
        "curves": learning_curves(curve_parts(curves, Display())[0][2], styles, title="d, s"),
        "ranks": rank_figure(with_intervals(stats.rank_table(ranks), intervals), styles),
        "gain": gain_figure(stats.gain_summary(stats.seed_gains(rows), stats.GAIN_BY_STUDENT)),
    }


def test_learning_curves_have_a_panel_a_teacher_and_a_line_a_selector(rows: pd.DataFrame) -> None:
    panels = figures(rows)["curves"].axes
    assert [axes.get_title() for axes in panels] == [
        f"{teacher}\nn = 2" for teacher in ("none", "t+clap", "t+zeroshot")
    ]
    assert len({axes.get_ylim() for axes in panels}) == 1
    for axes in panels:
        assert {str(line.get_label()): line.get_color() for line in axes.lines} == {
            "random": "#8c8c8c",
            "pcoreset": "#d55e00",
            "mine": "#0072b2",
        }
        assert len(axes.collections) == 3, "an interval a selector"
    line = next(line for line in panels[0].lines if line.get_label() == "random")
    assert np.asarray(line.get_ydata()).tolist() == pytest.approx([0.30, 0.55, 0.80, 0.90])
    assert np.asarray(line.get_xdata()).tolist() == [10, 20, 30, 40]


def test_one_seed_has_no_band(rows: pd.DataFrame) -> None:
    panels = figures(rows[rows["seed"] == 0])["curves"].axes
    assert all(not axes.collections for axes in panels)


def test_the_line_of_the_subject_is_thicker(rows: pd.DataFrame) -> None:
    part = curve_parts(curves_of(rows), Display())[0][2]
    figure = learning_curves(part, selector_styles(["random", "mine"]), title="t", subject="mine")
    widths = {str(line.get_label()): line.get_linewidth() for line in figure.axes[0].lines}
    assert widths["mine"] > 1.5 * widths["random"]


def test_colours_do_not_depend_on_who_else_is_shown() -> None:
    several = selector_styles(["pcoreset", "zeta", "random", "alpha"])
    assert several["pcoreset"] == selector_styles(["pcoreset"])["pcoreset"]
    assert several["alpha"] != several["zeta"]
    paper = [SELECTOR_STYLES[n] for n in ("random", "entropy", "coreset", "badge", "classbalanced", "pcoreset")]
    assert len({style.color for style in paper}) == len({style.marker for style in paper}) == 6


def test_rank_figure_shows_ranks_and_first_places(rows: pd.DataFrame) -> None:
    left, right = figures(rows)["ranks"].axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["pcoreset", "random", "mine"]
    assert [text.get_text() for text in left.texts] == ["1.83", "1.83", "2.33"]
    assert [text.get_text() for text in right.texts] == ["6", "3", "3"]
    assert [float(np.asarray(line.get_xdata())[0]) for line in left.lines] == pytest.approx([11 / 6, 11 / 6, 7 / 3])
    assert left.get_xlim() == pytest.approx((0.9, 3.1)), "from rank 1 to rank 3"
    assert left.get_xticks().tolist() == [1, 2, 3]
    assert right.get_xlabel() == "first places, of 9 settings"


def test_rank_figure_has_an_interval_where_one_is_known() -> None:
    many = {key: (*values, *(value + 0.01 for value in values), values[0]) for key, values in THREE.items()}
    left, right = figures(pd.concat([make_rows(many), make_rows(many, teacher="t")], ignore_index=True))["ranks"].axes
    # An interval and a dot for each selector.
    assert len(left.lines) == len(right.lines) == 6
    low, high = np.asarray(left.lines[0].get_xdata())
    assert 1 <= low < high <= 3


def test_gain_figure_shows_a_line_a_teacher(rows: pd.DataFrame) -> None:
    (axes,) = figures(rows)["gain"].axes
    lines = {line.get_label(): np.asarray(line.get_ydata()).tolist() for line in axes.lines}
    assert lines["t+clap"] == pytest.approx([0.01] * 4)
    assert lines["t+zeroshot"] == pytest.approx([0.02] * 4)


def test_curves_have_distinct_names_fit_for_files() -> None:
    parts = [make_rows(dataset=name) for name in ("x/y", "x:y")]
    curves = curves_of(pd.concat([*parts, make_rows(recipe="q", dataset="x:y")], ignore_index=True))
    found = curve_parts(curves, Display({"group": {"x/y": "X"}}))
    assert [name for name, _, _ in found] == ["curves_x-y_s_r", "curves_x-y_s_q", "curves_x-y_s_r-2"]
    assert [title for _, title, _ in found] == ["X · s · r", "x:y · s · q", "x:y · s · r"]
    assert all(set(part["group"]) == {group} for (_, _, part), group in zip(found, ("x/y", "x:y", "x:y"), strict=True))


def test_ticks_of_accuracy_are_told_apart() -> None:
    rows = make_rows({("a", r): (0.89 + r / 200, 0.9 + r / 200) for r in range(4)})
    figure = learning_curves(curves_of(rows), selector_styles(["a"]), title="t")
    figure.draw_without_rendering()
    (axes,) = figure.axes
    ticks = [label.get_text() for label in axes.get_yticklabels()]
    assert len(set(ticks)) == len(ticks) > 3
    assert [float(tick) for tick in ticks] == pytest.approx([100 * place for place in axes.get_yticks()])


def test_names_of_axes_are_whole(rows: pd.DataFrame) -> None:
    figure = figures(rows)["ranks"]
    long = "first places, of all settings (hatched: shared)"
    assert len(long) > MOST_CHARACTERS
    figure.axes[1].set_xlabel(long)
    figure.axes[1].set_title(long)
    shorten(figure)
    assert figure.axes[1].get_xlabel() == long
    assert figure.axes[1].get_title() != long


def test_many_rounds_and_panels_fit() -> None:
    long = {(selector, r): (0.5 + r / 100, 0.6) for selector in "ab" for r in range(16)}
    rows = pd.concat([make_rows(long, teacher=f"t{n}") for n in range(5)], ignore_index=True)
    figure = learning_curves(curves_of(rows), selector_styles(["a", "b"]), title="t")
    assert len(figure.axes) == 5
    assert all(len(axes.get_xticks()) <= 10 for axes in figure.axes)


def test_every_strategy_of_the_suite_is_distinct_and_named_inside_the_figure() -> None:
    oracles = [name for name, chosen in SELECTORS.items() if chosen.is_oracle]
    ranked = [name for name in SELECTORS if name not in oracles]
    ranked += ["top:entropy:350|pcoreset", "parts:4|pcoreset", "my_selectors:narrow"]
    names, styles = [*ranked, *oracles], selector_styles(ranked) | oracle_styles(oracles)
    assert set(names) == set(styles)
    assert len({(style.color, style.line) for style in styles.values()}) == len(names)
    rows = make_rows({(name, r): (0.5, 0.6) for name in names for r in range(3)})
    figure = learning_curves(curves_of(rows), styles, title="t")
    figure.draw_without_rendering()
    (legend,) = figure.legends
    inside, box = figure.bbox, legend.get_window_extent()
    assert {text.get_text() for text in legend.get_texts()} == set(names)
    assert inside.x0 <= box.x0
    assert box.x1 <= inside.x1
    assert inside.y0 <= box.y0


@pytest.mark.parametrize("kind", ["curves", "ranks", "gain"])
def test_equal_frames_give_equal_bytes_without_date_or_program(rows: pd.DataFrame, kind: str, tmp_path: Path) -> None:
    first = save(figures(rows)[kind], tmp_path / "v1.0")
    second = save(figures(rows)[kind], tmp_path / "again")
    assert [path.name for path in first] == ["v1.0.svg", "v1.0.pdf", "v1.0.png"]
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes()
    assert b"<dc:date>" not in first[0].read_bytes()
    pdf = first[1].read_bytes()
    assert b"CreationDate" not in pdf
    assert b"Producer" not in pdf
    assert pdf.count(b"/FontFile2") >= 1, "the font is embedded"
    assert b"/Subtype /Type3" not in pdf
    assert b"Software" not in first[2].read_bytes()


def test_long_names_lose_their_middle_and_figures_stay_small(rows: pd.DataFrame, tmp_path: Path) -> None:
    long = "folder:/" + "long_name/" * 30
    renamed = rows.assign(selector=rows["selector"].replace("mine", long), group=long)
    for name, figure in figures(renamed).items():
        before = figure.get_size_inches().max()
        svg, *_ = save(figure, tmp_path / name)
        assert svg.is_file()
        assert figure.get_size_inches().max() < 2 * before, name
    figure = figures(renamed)["ranks"]
    left, _ = figure.axes
    assert left.get_yticklabels()[-1].get_text() == long
    shorten(figure)
    shown = left.get_yticklabels()[-1].get_text()
    assert len(shown) == 41
    assert shown.startswith("folder:/long_name/lo…")
