"""What a figure of matplotlib shows, as data: the shape that E2B's clients know.

An axis with one kind of mark is a chart of that kind, several axes are a `superchart`. What is only
decoration (grid lines, spans, text) counts for nothing.
"""

import datetime
import math
import re

from matplotlib import dates
from matplotlib.collections import PathCollection
from matplotlib.container import BarContainer
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch, Rectangle, Wedge
from matplotlib.text import Text

POINTS_MAX = 20_000
"""Of one chart, in all its elements."""
_UNIT = re.compile(r"\s\((.*?)\)|\[(.*?)\]")


def chart(figure):
    """None for an empty one."""
    axes = [each for each in figure.get_axes() if each.has_data()]
    if not axes:
        return None
    if len(axes) == 1:
        return _of_axes(axes[0])
    title = figure._suptitle.get_text() if figure._suptitle is not None else ""
    return {"type": "superchart", "title": title or None, "elements": [_of_axes(x) for x in axes]}


def _of_axes(axes):
    marks = [x for x in axes.get_children() if _is_mark(axes, x)]
    base = {"type": "unknown", "title": axes.get_title() or None, "elements": []}
    for kind, fits, take in _KINDS:
        if marks and all(fits(mark) for mark in marks):
            return {**base, "type": kind, **take(axes, marks)}
    return base


def _is_mark(axes, artist):
    if artist is axes.patch or isinstance(artist, Text) or not artist.get_visible():
        return False
    if isinstance(artist, Line2D) and _is_grid(artist):
        return _of_box(axes, artist)
    return isinstance(artist, (Line2D, PathCollection, PathPatch, Rectangle, Wedge))


def _is_grid(line):
    x, y = line.get_xdata(), line.get_ydata()
    return len(x) == len(y) == 2 and (x[0] == x[1] or y[0] == y[1])


def _of_box(axes, line):
    """Whiskers and medians are two points each, as grid lines are."""
    return any(isinstance(patch, PathPatch) for patch in axes.patches) or len(axes.lines) >= 6


def _is_boxes(mark):
    return isinstance(mark, (PathPatch, Line2D))


def _labels(axes):
    return {
        "x_label": axes.get_xlabel() or None,
        "y_label": axes.get_ylabel() or None,
        "x_unit": _unit(axes.get_xlabel()),
        "y_unit": _unit(axes.get_ylabel()),
    }


def _unit(label):
    found = _UNIT.search(label)
    return (found[1] or found[2]) if found else None


def _scales(axes):
    found = {}
    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        ticks = [float(tick) for tick in axis.get_ticklocs()]
        texts = [text.get_text() for text in axis.get_ticklabels()]
        dated = _is_dated(axis)
        scale = "datetime" if dated else axis.get_scale()
        if scale == "linear" and texts and _categorical(ticks, texts):
            scale = "categorical"
        found[f"{name}_ticks"] = [_date(tick) for tick in ticks] if dated else ticks
        found[f"{name}_tick_labels"] = texts
        found[f"{name}_scale"] = scale
    return found


def _is_dated(axis):
    return isinstance(axis.get_major_formatter(), (dates.AutoDateFormatter, dates.DateFormatter))


def _categorical(ticks, texts):
    return all(tick == at and text != str(at) for at, (tick, text) in enumerate(zip(ticks, texts)))


def _date(number):
    return dates.num2date(number).isoformat()


def _number(value):
    """Of eight digits; what is no number in JSON is null."""
    value = float(value)
    return float(f"{value:.8g}") if math.isfinite(value) else None


def _point(value):
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    if type(value).__name__ == "datetime64":
        return str(value.astype("datetime64[s]"))
    return value if isinstance(value, str) else _number(value)


def _points(pairs):
    return [[_point(x), _point(y)] for x, y in pairs[:POINTS_MAX]]


def _lines(axes, lines):
    elements = []
    for at, line in enumerate(lines):
        label = line.get_label()
        pairs = list(zip(line.get_xdata(), line.get_ydata()))
        name = f"Line {at}" if label.startswith("_") else label
        elements.append({"label": name, "points": _points(pairs)})
    return {**_labels(axes), **_scales(axes), "elements": elements}


def _scatter(axes, collections):
    elements = [
        {
            "label": f"Group {at}" if each.get_label().startswith("_") else each.get_label(),
            "points": _points(list(map(tuple, each.get_offsets()))),
        }
        for at, each in enumerate(collections)
    ]
    return {**_labels(axes), **_scales(axes), "elements": elements}


def _swapped(labels):
    return {
        "x_label": labels["y_label"],
        "y_label": labels["x_label"],
        "x_unit": labels["y_unit"],
        "y_unit": labels["x_unit"],
    }


def _bars(axes, _):
    labels, elements = _labels(axes), []
    for at, bars in enumerate(c for c in axes.containers if isinstance(c, BarContainer)):
        lying = bars.orientation == "horizontal"
        axis = axes.yaxis if lying else axes.xaxis
        if at == 0 and lying:
            labels = _swapped(labels)
        name = bars.get_label()
        group = f"Group {at}" if name.startswith("_") else name
        for bar in bars:
            middle = (
                bar.get_y() + bar.get_height() / 2 if lying else bar.get_x() + bar.get_width() / 2
            )
            value = bar.get_width() if lying else bar.get_height()
            elements.append(
                {"label": _tick_text(axis, middle), "group": group, "value": _number(value)}
            )
    return {**labels, "elements": elements[:POINTS_MAX]}


def _tick_text(axis, place):
    """The text of the tick that is nearest."""
    ticks = [
        (abs(tick - place), text) for tick, text in zip(axis.get_ticklocs(), axis.get_ticklabels())
    ]
    nearest = min(ticks, default=None, key=lambda pair: pair[0])
    if nearest is None or nearest[0] > 0.5:
        return str(_number(place))
    return nearest[1].get_text()


def _pie(axes, wedges):
    return {
        "elements": [
            {
                "label": wedge.get_label(),
                "angle": _number(abs(wedge.theta2 - wedge.theta1)),
                "radius": _number(wedge.r),
            }
            for wedge in wedges
        ]
    }


def _boxes(axes, marks):
    """Each box as its own path or line of five points; whiskers, medians and outliers by their place."""
    standing, boxes = None, []
    for mark in marks:
        path = mark.get_path().vertices if isinstance(mark, PathPatch) else mark.get_xydata()
        if len(path) >= 5:
            xs, ys = path[:, 0], path[:, 1]
            boxes.append((min(xs), max(xs), min(ys), max(ys)))
    if not boxes:
        return {**_labels(axes), "elements": []}
    widths = {round(box[1] - box[0], 9) for box in boxes}
    heights = {round(box[3] - box[2], 9) for box in boxes}
    standing = len(widths) == 1 and (len(heights) > 1 or axes.get_xticks().tolist() == [
        (box[0] + box[1]) / 2 for box in boxes])  # fmt: skip
    axis = axes.xaxis if standing else axes.yaxis
    elements = []
    for x0, x1, y0, y1 in boxes:
        place, low, high = ((x0 + x1) / 2, y0, y1) if standing else ((y0 + y1) / 2, x0, x1)
        side = (x1 - x0 if standing else y1 - y0) / 2
        elements.append(_box(axis, marks, standing, place, side, low, high))
    labels = _labels(axes) if standing else _swapped(_labels(axes))
    return {**labels, "elements": elements}


def _box(axis, marks, standing, place, side, low, high):
    lower, upper, median, outliers = low, high, (low + high) / 2, []
    for line in (mark for mark in marks if isinstance(mark, Line2D)):
        data = line.get_xydata()
        across = data[:, 0 if standing else 1]
        along = data[:, 1 if standing else 0]
        if not len(data) or any(abs(x - place) > side * 1.01 for x in across):
            continue
        if len(data) == 2 and across[0] == across[1]:
            if min(along) < low:
                lower = min(along)
            if max(along) > high:
                upper = max(along)
        elif len(data) == 2 and low <= along[0] == along[1] <= high and _wide(across, side):
            median = along[0]
        elif len(data) != 2 and line.get_linestyle() == "None":
            outliers += [_number(value) for value in along]
    return {
        "label": _tick_text(axis, place),
        "min": _number(lower),
        "first_quartile": _number(low),
        "median": _number(median),
        "third_quartile": _number(high),
        "max": _number(upper),
        "outliers": outliers,
    }


def _wide(across, side):
    """A median is as wide as its box; the caps of whiskers are narrower."""
    return abs(across[1] - across[0]) > side * 1.9


def _is(*kinds):
    return lambda mark: isinstance(mark, kinds)


_KINDS = (
    ("line", lambda mark: isinstance(mark, Line2D) and not _is_grid(mark), _lines),
    ("box_and_whisker", _is_boxes, _boxes),
    ("scatter", _is(PathCollection), _scatter),
    ("pie", _is(Wedge), _pie),
    ("bar", _is(Rectangle), _bars),
)
