"""Style of every figure: canvas, colours, marks, and inline SVG.

Figures are made with the object interface and the SVG backend only; pyplot and its global state
stay out. Text stays text (selectable, in the page's own font). Ink, grid and surface are written as
CSS variables, so that one figure serves light and dark pages.
"""

import io
import re
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter

from persyn_ray.report.estimate import Bounded
from persyn_ray.report.numbers import compact

WIDTH = (
    5.8  # inches; 72 units each in the SVG, so text stays readable when a phone shrinks the figure
)
INK, MUTED, GRID, SURFACE = "#1c2024", "#667079", "#dfe3e6", "#fefefe"
ACCENT, ORACLE, REFERENCE, BEFORE = "#2f6fde", "#12906b", "#9aa4ae", "#c9d0d6"
DASHED = (0, (3, 3))
WARM = "#d9822b"
ACCENT_SOFT, ORACLE_SOFT = "#8fb3ee", "#86c5b1"
OTHERS = "#b8bfc6"
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--line", SURFACE: "--card", BEFORE: "--faint"}
TEACHER_COLOURS = (
    "#4c78a8",
    "#f58518",
    "#54a24b",
    "#b279a2",
    "#72b7b2",
    "#e45756",
    "#eeca3b",
    "#9d755d",
    "#ff9da6",
)
METHOD_COLOURS = {
    "persyn": ACCENT,
    "hedged": ACCENT_SOFT,
    "quality_only": ORACLE_SOFT,
    "learnability_only": ORACLE_SOFT,
    "oracle": ORACLE,
    "before": BEFORE,
}
FONTS = ("Helvetica", "Arial", "Liberation Sans", "DejaVu Sans")
PERCENT = FuncFormatter(lambda value, _: f"{100 * value:.3g} %")
COMPACT = FuncFormatter(lambda value, _: compact(value))


def styled() -> AbstractContextManager[None]:
    """The settings under which a figure is both built and written; given back afterwards."""
    installed = set(font_manager.get_font_names())
    settings: Any = {
        "svg.fonttype": "none",
        "text.parse_math": False,  # a label is text, whatever dollar signs it holds
        "font.family": [next((font for font in FONTS if font in installed), "DejaVu Sans")],
        "font.size": 10.3,
        "axes.edgecolor": GRID,
        "axes.labelcolor": MUTED,
        "axes.labelsize": 9.6,
        "axes.titlesize": 10.3,
        "axes.titlecolor": INK,
        "axes.titlelocation": "left",
        "axes.titlepad": 7,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "grid.color": GRID,
        "grid.linewidth": 0.8,
        "text.color": INK,
        "xtick.color": GRID,
        "ytick.color": GRID,
        "xtick.labelcolor": MUTED,
        "ytick.labelcolor": INK,
        "xtick.labelsize": 9.3,
        "ytick.labelsize": 9.8,
        "legend.frameon": False,
        "legend.fontsize": 9.3,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "figure.constrained_layout.use": True,
        "figure.constrained_layout.w_pad": 0.06,
    }
    return matplotlib.rc_context(settings)


def rows_height(num_rows: int, per_row: float = 0.29, extra: float = 0.7) -> float:
    """Inches for a chart with one row an entry."""
    return max(1.7, extra + per_row * num_rows)


def to_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an inline SVG element without a fixed size, its identifiers unique."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
        # Text is drawn by the browser, with its own fonts; here it is only measured.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r'<g id="[^"]*"', "<g", svg
    )  # several figures share a page: only referenced ids stay
    box = re.search(r'viewBox="[^"]*"', svg)
    assert box is not None
    opening = f'<svg {box.group()} role="img" aria-label="{_escaped(description)}">'
    svg = re.sub(r"<svg[^>]*>", lambda _: opening, svg, count=1)
    svg = svg.replace("xlink:href", "href")
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return re.sub(r">\s+<", "><", svg)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")


def short_names(names: Sequence[str], width: int = 24) -> list[str]:
    """Teacher names for a figure: without "-Instruct" when one is too long, then cut in the middle.

    Sizes and versions stand at the end and are kept; tables show every name in full.
    """
    if any(len(name) > width for name in names):
        bare = [re.sub(r"[-_](instruct|chat|it)$", "", name, flags=re.IGNORECASE) for name in names]
        names = bare if len(set(bare)) == len(set(names)) else names
    return [_cut(name, width) for name in names]


def _cut(name: str, width: int) -> str:
    tail = (2 * width) // 3
    if len(name) <= width:
        return name
    return f"{name[: width - tail - 1]}\N{HORIZONTAL ELLIPSIS}{name[-tail:]}"


def label_rows(
    axes: Axes, labels: Sequence[str], strong: str | None = None, width: int = 24
) -> None:
    """Name the rows of a horizontal chart from top to bottom; one of them in bold."""
    axes.set_yticks(range(len(labels)), short_names(labels, width))
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, labelleft=True)
    axes.spines["left"].set_visible(False)
    for text, full in zip(axes.get_yticklabels(), labels, strict=True):
        text.set_fontweight("bold" if full == strong else "normal")


def label_methods(axes: Axes, labels: Sequence[str], strong: str) -> None:
    """Name the rows by methods, none of which is so long that it must be cut."""
    label_rows(axes, labels, strong, max(map(len, labels)))


def unlabelled_rows(axes: Axes) -> None:
    """A panel whose rows are named by the panel to its left."""
    axes.tick_params(axis="y", labelleft=False, length=0)
    axes.spines["left"].set_visible(False)


def after(axes: Axes, x: float, row: float, text: str, **style: Any) -> None:
    """Write a value just right of a bar; offset by points, because SVG drops leading spaces."""
    axes.annotate(text, (x, row), (5, 0), textcoords="offset points", va="center", **style)


def panel_gap(figure: Figure, width: float) -> None:
    """Room between side-by-side panels, as a fraction of their mean width."""
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(wspace=width)


def value_grid(axes: Axes, axis: Literal["x", "y"] = "x", bins: int = 6) -> None:
    """Hairlines behind the marks at no more than `bins` intervals."""
    axes.grid(visible=True, axis=axis)
    axes.tick_params(length=0)
    axes.locator_params(axis=axis, nbins=bins)


def dot(axes: Axes, row: float, estimate: Bounded | None, colour: str) -> None:
    """A mean as a dot with its 95 % interval as a line; nothing where nothing was measured."""
    if estimate is None or estimate["value"] is None:
        return
    low, high = estimate["low"], estimate["high"]
    if low is not None and high is not None:
        axes.plot([low, high], [row, row], color=colour, linewidth=1.8)
    axes.plot([estimate["value"]], [row], "o", color=colour, markersize=5.5, clip_on=False)


def band(axes: Axes, x: Sequence[float], estimates: Sequence[Any], colour: str) -> None:
    """A line through means with the 95 % interval as a band; unmeasured points are left out."""
    pairs = [
        (at, one) for at, one in zip(x, estimates, strict=True) if one and one["value"] is not None
    ]
    places = [at for at, _ in pairs]
    axes.plot(
        places,
        [one["value"] for _, one in pairs],
        "-o",
        color=colour,
        linewidth=1.8,
        markersize=4.5,
    )
    bounded = [(at, one) for at, one in pairs if one["low"] is not None and one["high"] is not None]
    axes.fill_between(
        [at for at, _ in bounded],
        [one["low"] for _, one in bounded],
        [one["high"] for _, one in bounded],
        color=colour,
        alpha=0.16,
        linewidth=0,
    )


def method_colour(method: str) -> str:
    """PerSyn is blue, what selects among all responses is green, every other reference is grey."""
    return METHOD_COLOURS.get(method, REFERENCE)
