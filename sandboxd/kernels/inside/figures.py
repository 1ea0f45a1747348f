"""The backend of matplotlib: figures become results, as pictures and as what they show."""

import io
import weakref

from matplotlib import pyplot
from matplotlib.backend_bases import FigureManagerBase as FigureManager
from matplotlib.backends.backend_agg import FigureCanvasAgg as FigureCanvas
from sandboxd_kernel.charts import chart
from sandboxd_kernel.shell import Shell

CHART = "application/vnd.sandboxd.chart"

_shown = weakref.WeakSet()

__all__ = ["FigureCanvas", "FigureManager", "show"]


def formats(figure):
    """By MIME type. It counts as shown."""
    _shown.add(figure)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", bbox_inches="tight")
    found = {"image/png": picture.getvalue()}
    try:
        shown = chart(figure)
    except Exception:  # an axis of a kind that nobody has thought of: the picture is there
        shown = None
    if shown is not None:
        found[CHART] = shown
    return found


def show(*_, **__):
    """All open figures that have not been shown yet; all are closed."""
    for number in pyplot.get_fignums():
        figure = pyplot.figure(number)
        try:
            if figure not in _shown and (figure.get_axes() or figure.texts):
                Shell.kernel.show({"text/plain": repr(figure), **formats(figure)}, False)
        finally:
            pyplot.close(figure)
