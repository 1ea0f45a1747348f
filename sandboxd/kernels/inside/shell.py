"""IPython's shell, with our displays in the place of a terminal's."""

import getpass
import sys

import sandboxd_kernel.lean  # noqa: F401  before IPython
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.error import UsageError
from IPython.core.formatters import DisplayFormatter
from IPython.core.interactiveshell import InteractiveShell
from sandboxd_kernel.wire import refused
from traitlets.config import Config

DATA = "application/vnd.sandboxd.data"
_ROWS_MAX = 10_000
"""Rows of a data frame that are given as data."""


def make_shell(kernel):
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "NoColor"
    config.InteractiveShell.display_page = True
    config.Completer.use_jedi = False
    Shell.kernel = kernel
    shell = Shell.instance(config=config)
    shell.register_magic_function(kernel.pip, "line", "pip")
    shell.configurables.append(shell.display_formatter)
    getpass.getpass = _no_password
    # What the first cell would have to wait for; nothing of it stays.
    shell.run_cell("None", silent=True)
    shell.display_formatter.format(0)
    return shell


def _no_password(prompt="", stream=None):
    raise refused()


class Hook(DisplayHook):
    """The value of a cell's last expression."""

    def write_output_prompt(self):
        pass

    def write_format_data(self, format_dict, md_dict=None):
        self.shell.kernel.show(format_dict, True)

    def finish_displayhook(self):
        pass


class Publisher(DisplayPublisher):
    """What `display` is given."""

    def publish(self, data, metadata=None, source=None, *, transient=None, update=False, **_):
        self.shell.kernel.show(data, False)

    def clear_output(self, wait=False):
        pass


class Formatter(DisplayFormatter):
    """Adds what programs can read: the data of data frames, of figures what they show."""

    def format(self, obj, include=None, exclude=None):
        formats, metadata = super().format(obj, include, exclude)
        pandas = sys.modules.get("pandas")
        if pandas is not None and isinstance(obj, getattr(pandas, "DataFrame", ())):
            formats[DATA] = _data(obj.head(_ROWS_MAX))
        figure = getattr(sys.modules.get("matplotlib.figure"), "Figure", ())
        if figure and isinstance(obj, figure):
            from sandboxd_kernel import figures

            formats.update(figures.formats(obj))
        return formats, metadata


def _data(frame):
    """Lists by column; what JSON has no word for is text, and missing values are null."""
    return {str(name): [_plain(x) for x in column.tolist()] for name, column in frame.items()}


def _plain(value):
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if hasattr(value, "isoformat"):
        return None if value is getattr(sys.modules["pandas"], "NaT", None) else value.isoformat()
    return str(value)


class Shell(InteractiveShell):
    kernel = None

    def init_display_formatter(self):
        self.display_formatter = Formatter(parent=self)
        self.configurables.append(self.display_formatter)

    def init_displayhook(self):
        self.displayhook_class = Hook
        super().init_displayhook()

    def init_display_pub(self):
        self.display_pub_class = Publisher
        super().init_display_pub()

    def enable_gui(self, gui=None):
        pass

    def enable_matplotlib(self, gui=None):
        """`%matplotlib`, whatever it says: figures are results here."""
        return "inline", None

    def system(self, cmd):
        self.user_ns["_exit_code"] = self.kernel.system(self.var_expand(cmd, depth=1))

    system_piped = system_raw = system

    def ask_exit(self):
        self.kernel.fail("SystemExit", "", "SystemExit: a context is ended by removing it")

    def _showtraceback(self, etype, evalue, stb):
        text = stb if isinstance(stb, str) else self.InteractiveTB.stb2text(stb)
        self.kernel.fail(getattr(etype, "__name__", str(etype)), str(evalue), text)

    def show_usage_error(self, exc):
        self.kernel.fail(UsageError.__name__, str(exc), f"UsageError: {exc}")
