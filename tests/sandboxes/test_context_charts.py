"""What a figure shows, as data, in the shape that E2B's clients read; matplotlib as the image has it."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.sandboxes.conftest import Box
from tests.sandboxes.test_contexts import Ctx

pytestmark = [pytest.mark.root, pytest.mark.service]


@pytest.fixture(scope="module")
def plots(box: Box) -> Iterator[Ctx]:
    made = Ctx.create(box)
    made.run(
        "import matplotlib.pyplot as plt, datetime\nfrom matplotlib.dates import DateFormatter"
    )
    yield made


def chart(plots: Ctx, code: str) -> Any:
    done = plots.run(f"{code}\nplt.show()")
    assert done["status"] == "ok", done
    (shown,) = done["results"]
    assert shown["png"]
    return shown["chart"]


def test_lines(plots: Ctx) -> None:
    found = chart(
        plots,
        "plt.plot([1, 2, 3], [2, 4, 8], label='growth'); plt.plot([1, 2], [0, float('nan')])\n"
        "plt.title('T'); plt.xlabel('Time (s)'); plt.ylabel('Size [kg]'); plt.yscale('log'); plt.grid()\n"
        "plt.axhline(3)",
    )
    assert (found["type"], found["title"]) == ("line", "T")
    assert (found["x_label"], found["x_unit"], found["y_unit"]) == ("Time (s)", "s", "kg")
    assert (found["x_scale"], found["y_scale"]) == ("linear", "log")
    assert [each["label"] for each in found["elements"]] == ["growth", "Line 1"]
    assert found["elements"][0]["points"] == [[1, 2], [2, 4], [3, 8]]
    assert found["elements"][1]["points"][1] == [2, None]
    assert len(found["x_ticks"]) == len(found["x_tick_labels"])


def test_dates_on_an_axis(plots: Ctx) -> None:
    found = chart(plots, "plt.plot([datetime.date(2024, 1, d) for d in (1, 2)], [1, 2])")
    assert found["x_scale"] == "datetime" and found["x_ticks"][0].startswith("202")
    assert found["elements"][0]["points"][0][0].startswith("2024-01-01")


def test_scatter(plots: Ctx) -> None:
    found = chart(plots, "plt.scatter([1, 2], [3, 4], label='dots')")
    assert found["type"] == "scatter"
    assert found["elements"] == [{"label": "dots", "points": [[1, 3], [2, 4]]}]


def test_bars_stand_and_lie(plots: Ctx) -> None:
    found = chart(plots, "plt.bar(['a', 'b'], [3, 5], label='g'); plt.xlabel('who')")
    assert found["type"] == "bar" and found["x_label"] == "who"
    assert found["elements"] == [
        {"label": "a", "group": "g", "value": 3}, {"label": "b", "group": "g", "value": 5},
    ]  # fmt: skip
    lying = chart(plots, "plt.barh(['a', 'b'], [3, 5]); plt.xlabel('much'); plt.ylabel('who')")
    assert (lying["x_label"], lying["y_label"]) == ("who", "much")
    assert [(e["label"], e["value"]) for e in lying["elements"]] == [("a", 3), ("b", 5)]
    same = chart(plots, "plt.bar(['a', 'b'], [3, 3])")
    assert [(e["label"], e["value"]) for e in same["elements"]] == [("a", 3), ("b", 3)]


def test_pie(plots: Ctx) -> None:
    found = chart(plots, "plt.pie([1, 3], labels=['one', 'three'])")
    assert found["type"] == "pie"
    assert [(e["label"], e["angle"], e["radius"]) for e in found["elements"]] == [
        ("one", 90, 1), ("three", 270, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "more", ["", ", patch_artist=True", ", vert=False", ", patch_artist=True, vert=False"]
)
def test_boxes(plots: Ctx, more: str) -> None:
    data = "[[1, 2, 3, 4, 5, 30], [2, 4, 6, 8, 10]]"
    found = chart(plots, f"plt.boxplot({data}, labels=['p', 'q']{more})")
    assert found["type"] == "box_and_whisker"
    first, second = found["elements"]
    assert first == {
        "label": "p", "min": 1, "first_quartile": 2.25, "median": 3.5, "third_quartile": 4.75,
        "max": 5, "outliers": [30],
    }  # fmt: skip
    assert (second["label"], second["median"], second["outliers"]) == ("q", 6, [])


def test_several_axes(plots: Ctx) -> None:
    found = chart(
        plots,
        "f, (a, b) = plt.subplots(1, 2); a.plot([1, 2]); b.bar(['x'], [1]); f.suptitle('both')",
    )
    assert (found["type"], found["title"]) == ("superchart", "both")
    assert [each["type"] for each in found["elements"]] == ["line", "bar"]


def test_what_has_no_word_is_unknown_and_nothing_is_nothing(plots: Ctx) -> None:
    assert chart(plots, "plt.imshow([[1, 2], [3, 4]])")["type"] == "unknown"
    assert plots.run("plt.figure(); plt.show()").get("results", []) == []


def test_a_figure_is_shown_once(plots: Ctx) -> None:
    done = plots.run("f, a = plt.subplots(); a.plot([1]); f")
    assert [each.get("main", False) for each in done["results"]] == [True]
    assert done["results"][0]["chart"]["type"] == "line"
    assert len(plots.run("plt.plot([1]); plt.show(); plt.plot([2]);")["results"]) == 2
