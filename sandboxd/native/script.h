/* script.c: what CPython's main does with a script, and how it ends. */
#ifndef SBX_SCRIPT_H
#define SBX_SCRIPT_H

#include <Python.h>

/* Run the script at `path` as `__main__`, and end the process as `python3 path` does. Called with
 * no frame of Python below, by an interpreter that has imported `site` and has looked no further.
 */
_Noreturn void run_script(PyObject *path);

#endif
