"""The R context: IRkernel where the image has it and `jupyter_client`.

Elsewhere a program of ours, to which values that R would print are results, and plots pictures.
"""

import os
import shutil
import tempfile

from sandboxd_kernel.bridge import SAID, Bridge
from sandboxd_kernel.jupyter import Missing, kernelspec, serve
from sandboxd_kernel.rwords import listed, quoted
from sandboxd_kernel.wire import Wire, bounded, shortened

_TOLD = 7
"""Descriptor on which R is told what to do: the path of a file a line. Of one digit, for sh."""
_PROGRAM = r"""
local({
  said <- file("/proc/self/fd/%(said)d", "wb", raw = TRUE)
  quoted <- function(text) {
    text <- enc2utf8(paste(text, collapse = "\n"))
    text <- gsub("\\", "\\\\", text, fixed = TRUE)
    text <- gsub('"', '\\"', text, fixed = TRUE)
    for (pair in list(c("\n", "\\n"), c("\r", "\\r"), c("\t", "\\t")))
      text <- gsub(pair[1], pair[2], text, fixed = TRUE)
    paste0('"', gsub("[[:cntrl:]]", "?", text), '"')
  }
  say <- function(...) { cat(..., "\n", file = said, sep = ""); flush(said) }
  plots <- "%(plots)s/plot%%03d.png"
  options(device = function(...) png(plots, width = 800, height = 600, type = "cairo", ...))
  show_plots <- function() {
    while (!is.null(dev.list())) dev.off()
    for (plot in sort(list.files("%(plots)s", "[.]png$", full.names = TRUE)))
      say('{"plot": ', quoted(plot), '}')
  }
  shown <- function(value, main) {
    text <- utils::capture.output(print(value))
    say('{"type": "result", "main": ', if (main) "true" else "false", ', "text": ', quoted(text), '}')
  }
  failed <- function(name, error) {
    call <- conditionCall(error)
    text <- conditionMessage(error)
    call <- if (is.null(call)) "" else paste(deparse(call), collapse = " ")
    where <- if (call == "" || startsWith(call, "eval(code[[at]]")) "" else paste0(" in ", call)
    say('{"type": "exception", "name": "', name, '", "value": ', quoted(text),
        ', "traceback": ', quoted(paste0("Error", where, ": ", text)), '}')
  }
  run <- function(path, variables, number) {
    old <- Sys.getenv(names(variables), NA, names = TRUE)
    if (length(variables)) do.call(Sys.setenv, variables)
    tryCatch({
      code <- parse(text = readLines(path, encoding = "UTF-8", warn = FALSE), keep.source = FALSE)
      for (at in seq_along(code)) {
        value <- withVisible(withCallingHandlers(
          eval(code[[at]], globalenv()),
          warning = function(w) {
            cat("Warning message:\n", conditionMessage(w), "\n", sep = "", file = stderr())
            invokeRestart("muffleWarning")
          }))
        if (value$visible) shown(value$value, at == length(code))
      }
    }, error = function(e) failed(class(e)[1], e),
       interrupt = function(i) failed("Interrupt", simpleCondition("")))
    show_plots()
    for (name in names(old)) if (is.na(old[[name]])) Sys.unsetenv(name) else
      do.call(Sys.setenv, stats::setNames(list(old[[name]]), name))
    say('{"over": ', number, '}')
  }
  move <- function(path, number) {
    tryCatch(setwd(path), error = function(e) say('{"refused": 1}'))
    say('{"over": ', number, '}')
  }
  export <- function(variables, number) { do.call(Sys.setenv, variables); say('{"over": ', number, '}') }
  quit <- function(...) stop("a context is ended by removing it")
  attach(list(q = quit, quit = quit), name = "sandboxd", warn.conflicts = FALSE)
  told <- file("/proc/self/fd/%(told)d", "rb", raw = TRUE)
  repeat tryCatch({
    path <- readLines(told, 1)
    if (length(path) == 0) base::quit(status = 0)
    eval(parse(path, encoding = "UTF-8", keep.source = FALSE))
  }, interrupt = function(i) NULL)
})
"""


def main():
    wire = Wire()
    if shutil.which("R") is None:
        wire.send("refused", reason="no_interpreter", detail="there is no R in this image")
        return
    try:
        spec = kernelspec("ir")
    except Missing:
        R(wire).serve()
    else:
        serve(wire, spec)


class R(Bridge):
    def __init__(self, wire):
        self._place = tempfile.mkdtemp(prefix="context-")
        plots = os.path.join(self._place, "plots")
        os.mkdir(plots)
        self._file("program", _PROGRAM % {"said": SAID, "told": _TOLD, "plots": plots})
        # R is told by a descriptor of its own: stdin is the program's, and empty.
        start = f'exec R --vanilla --no-echo -f "$0" {_TOLD}<&0 </dev/null'
        self.command = ("sh", "-c", start, os.path.join(self._place, "program"))
        super().__init__(wire)

    def piece(self, code, env, number):
        return self._call(f"run({self._file('code', code)}, {listed(env)}, {number})")

    def moved(self, directory, number):
        return self._call(f"move({quoted(directory)}, {number})")

    def exported(self, env, number):
        return self._call(f"export({listed(env)}, {number})")

    def heard(self, document):
        if "plot" in document:
            with open(document["plot"], "rb") as file:
                kept, dropped = bounded({"png": file.read()})
            os.unlink(document["plot"])
            return {"type": "result", "truncated": dropped, **kept}
        if document["type"] == "result":
            document["text"] = shortened(document["text"])
        return document

    def _call(self, text):
        """The path of a file with a call of the program's functions."""
        self._file("call", text)
        return os.path.join(self._place, "call") + "\n"

    def _file(self, name, text):
        """Its path, quoted for R."""
        path = os.path.join(self._place, name)
        with open(path, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        return quoted(path)
