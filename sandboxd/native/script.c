/* The script of a copy of a zygote, from its opening to the end of the process.
 *
 * It follows CPython 3.11's Modules/main.c (pymain_run_python) and Python/pythonrun.c
 * (_PyRun_SimpleFileObject, _Py_HandleSystemExit) step by step, and differs in one: before
 * Py_FinalizeEx, which frees object by object what the process takes with it anyway, it looks
 * whether a program could see that. Most leave nothing that has a finalizer, a weak reference with
 * a callback, or a second thread; then the streams are flushed and the process ends. Else
 * everything goes CPython's way. tests/warm compares the two with a cold start, script by script.
 */
#define Py_BUILD_CORE_MODULE 1
#include "script.h"

#include <errno.h>
#include <internal/pycore_gc.h>
#include <internal/pycore_interp.h>
#include <internal/pycore_runtime.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The parts that a standard stream consists of. */
struct streams {
	PyObject *parts[9];
	size_t count;
};

static void take_part(struct streams *streams, PyObject *part)
{
	if (part == NULL)
		PyErr_Clear();
	else if (part == Py_None)
		Py_DECREF(part);
	else
		streams->parts[streams->count++] = part;
}

static void find_streams(struct streams *streams)
{
	static const char *const names[] = {"__stdin__", "__stdout__", "__stderr__"};

	streams->count = 0;
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		PyObject *text = PySys_GetObject(names[i]), *buffer = NULL;

		if (text == NULL || text == Py_None)
			continue;
		Py_INCREF(text);
		take_part(streams, text);
		buffer = PyObject_GetAttrString(text, "buffer");
		if (buffer != NULL)
			take_part(streams, PyObject_GetAttrString(buffer, "raw"));
		take_part(streams, buffer);
	}
	PyErr_Clear();
}

static bool is_stream(const struct streams *streams, const PyObject *object)
{
	for (size_t i = 0; i < streams->count; i++)
		if (streams->parts[i] == object)
			return true;
	return false;
}

/* A callback of weakref.WeakValueDictionary, WeakSet and the like takes something off a list; one
 * in C keeps a cache. */
static bool is_housekeeping(PyObject *callback)
{
	static const char *const modules[] = {"weakref", "_weakrefset", "logging"};
	PyObject *globals, *name;

	if (PyCFunction_Check(callback))
		return true;
	if (!PyFunction_Check(callback) || (globals = PyFunction_GetGlobals(callback)) == NULL)
		return false;
	name = PyDict_GetItemString(globals, "__name__");
	for (size_t i = 0; i < sizeof(modules) / sizeof(*modules); i++)
		if (name != NULL && PyUnicode_Check(name) &&
		    PyUnicode_CompareWithASCIIString(name, modules[i]) == 0)
			return true;
	return false;
}

/* Whether it is a class with a `__del__` written in Python whose instances the collector does not
 * know. (Those that the library has in C, as of os.scandir, give back what the process had.) */
static bool has_hidden_instances(PyObject *object)
{
	PyTypeObject *class = (PyTypeObject *)object;
	PyObject *name, *method;

	if (!PyType_Check(object) || !(class->tp_flags & Py_TPFLAGS_HEAPTYPE) ||
	    class->tp_flags & Py_TPFLAGS_HAVE_GC || class->tp_finalize == NULL)
		return false;
	name = PyUnicode_InternFromString("__del__");
	method = name == NULL ? NULL : _PyType_Lookup(class, name);
	Py_XDECREF(name);
	return method == NULL || Py_TYPE(method) != &PyWrapperDescr_Type;
}

/* Whether a program may see that this object is taken down. */
static bool is_noticed(PyObject *object)
{
	const PyTypeObject *type = Py_TYPE(object);
	PyObject *callback;

	if (type->tp_finalize != NULL || type->tp_del != NULL)
		return true;
	if (!PyWeakref_Check(object))
		return has_hidden_instances(object);
	callback = ((PyWeakReference *)object)->wr_callback;
	return callback != NULL && !is_housekeeping(callback);
}

/* The list is walked from both ends at once: each step waits for memory, and so two wait together.
 */
static bool holds_noticed(PyGC_Head *head, const struct streams *streams)
{
	PyGC_Head *front = _PyGCHead_NEXT(head), *back = _PyGCHead_PREV(head);

	while (front != head) {
		PyObject *first = (PyObject *)(front + 1), *last = (PyObject *)(back + 1);

		if ((is_noticed(first) && !is_stream(streams, first)) ||
		    (is_noticed(last) && !is_stream(streams, last)))
			return true;
		if (front == back || _PyGCHead_NEXT(front) == back)
			return false;
		front = _PyGCHead_NEXT(front);
		back = _PyGCHead_PREV(back);
	}
	return false;
}

/* Whether nobody would notice if the rest of the interpreter were not taken down. Reads, and writes
 * to no object: most pages are shared with the zygote still. */
static bool is_quiet(const struct streams *streams)
{
	PyInterpreterState *interpreter = PyInterpreterState_Get();
	struct _gc_runtime_state *collector = &interpreter->gc;

	if (PyThreadState_Next(PyInterpreterState_ThreadHead(interpreter)) != NULL ||
	    PyInterpreterState_Next(PyInterpreterState_Head()) != NULL)
		return false;
	if (interpreter->atexit.ncallbacks != 0 || collector->debug != 0 || collector->collecting ||
	    _PyRuntime.nexitfuncs != 0 ||
	    (collector->callbacks != NULL && PyList_GET_SIZE(collector->callbacks) != 0) ||
	    (collector->garbage != NULL && PyList_GET_SIZE(collector->garbage) != 0))
		return false;
	for (int i = 0; i < NUM_GENERATIONS; i++)
		if (holds_noticed(&collector->generations[i].head, streams))
			return false;
	return true;
}

static bool is_closed(PyObject *file)
{
	PyObject *closed = PyObject_GetAttrString(file, "closed");
	int answer = closed == NULL ? 0 : PyObject_IsTrue(closed);

	Py_XDECREF(closed);
	PyErr_Clear();
	return answer > 0;
}

/* 0, or -1 with an exception. */
static int flush(PyObject *file)
{
	PyObject *result;

	if (file == NULL || file == Py_None || is_closed(file))
		return 0;
	result = PyObject_CallMethod(file, "flush", NULL);
	Py_XDECREF(result);
	return result == NULL ? -1 : 0;
}

/* As Py_FinalizeEx does first: 0, or -1 if what was written did not all go out. */
static int flush_streams(const struct streams *streams)
{
	PyObject *out = PySys_GetObject("stdout");
	int status = 0;

	if (flush(out) != 0) {
		PyErr_WriteUnraisable(out);
		status = -1;
	}
	if (flush(PySys_GetObject("stderr")) != 0) {
		PyErr_Clear();
		status = -1;
	}
	/* What a program has put aside is flushed when it is taken down. */
	for (size_t i = 0; i < streams->count; i++)
		if (flush(streams->parts[i]) != 0)
			PyErr_Clear();
	return status;
}

/* A module that is imported, or NULL; a new reference. */
static PyObject *find_module(const char *name)
{
	PyObject *text = PyUnicode_FromString(name);
	PyObject *module = text == NULL ? NULL : PyImport_GetModule(text);

	Py_XDECREF(text);
	PyErr_Clear();
	return module;
}

static void join_threads(void)
{
	PyObject *threading = find_module("threading");
	PyObject *result;

	if (threading == NULL)
		return;
	result = PyObject_CallMethod(threading, "_shutdown", NULL);
	if (result == NULL)
		PyErr_WriteUnraisable(threading);
	Py_XDECREF(result);
	Py_DECREF(threading);
}

/* Run as Py_FinalizeEx does: then none is left. */
static void run_exit_functions(void)
{
	PyObject *module = find_module("atexit");
	PyObject *result;

	if (module == NULL)
		return;
	result = PyObject_CallMethod(module, "_run_exitfuncs", NULL);
	if (result == NULL)
		PyErr_Clear();
	Py_XDECREF(result);
	Py_DECREF(module);
}

static int end_by_interrupt(void)
{
	if (PyOS_setsig(SIGINT, SIG_DFL) != SIG_ERR)
		kill(getpid(), SIGINT);
	return 128 + SIGINT;
}

static _Noreturn void finish(int code, bool interrupted)
{
	struct streams streams;
	int status;

	join_threads();
	run_exit_functions();
	find_streams(&streams);
	if (is_quiet(&streams)) {
		status = flush_streams(&streams);
	} else {
		while (streams.count > 0)
			Py_DECREF(streams.parts[--streams.count]);
		status = Py_FinalizeEx();
	}
	if (status != 0)
		code = 120;
	exit(interrupted ? end_by_interrupt() : code);
}

/* Whether the exception was SystemExit, which is then cleared and has set `code`. */
static bool handle_system_exit(int *code)
{
	PyObject *type, *value, *traceback, *found;

	if (!PyErr_ExceptionMatches(PyExc_SystemExit))
		return false;
	PyErr_Fetch(&type, &value, &traceback);
	fflush(stdout);
	*code = 0;
	if (value != NULL && PyExceptionInstance_Check(value)) {
		found = PyObject_GetAttrString(value, "code");
		if (found != NULL) {
			Py_DECREF(value);
			value = found;
		}
	}
	if (value != NULL && PyLong_Check(value)) {
		*code = (int)PyLong_AsLong(value);
	} else if (value != NULL && value != Py_None) {
		PyObject *err = PySys_GetObject("stderr");

		PyErr_Clear();
		if (err != NULL && err != Py_None) {
			PyFile_WriteObject(value, err, Py_PRINT_RAW);
		} else {
			PyObject_Print(value, stderr, Py_PRINT_RAW);
			fflush(stderr);
		}
		PySys_WriteStderr("\n");
		*code = 1;
	}
	PyErr_Restore(type, value, traceback);
	PyErr_Clear();
	return true;
}

/* What an exception makes of the exit code, once it has been printed. */
static int print_exception(void)
{
	int code = 1;

	if (!handle_system_exit(&code))
		PyErr_Print();
	return code;
}

/* The directory of the script goes first, with links resolved. */
static int add_directory(PyObject *path)
{
	const char *name = PyUnicode_AsUTF8(path), *whole, *slash;
	PyObject *list = PySys_GetObject("path"), *first;
	size_t length = 0;
	char *real;

	if (name == NULL || list == NULL)
		return -1;
	real = realpath(name, NULL);
	whole = real == NULL ? name : real;
	slash = strrchr(whole, '/');
	if (slash != NULL)
		length = slash == whole ? 1 : (size_t)(slash - whole);
	first = PyUnicode_DecodeFSDefaultAndSize(whole, (Py_ssize_t)length);
	free(real);
	if (first == NULL || PyList_Insert(list, 0, first) != 0)
		return -1;
	Py_DECREF(first);
	return 0;
}

/* A directory or archive with a `__main__`. */
static int run_package(PyObject *path)
{
	PyObject *list = PySys_GetObject("path"), *runpy, *result = NULL;

	if (list == NULL || PyList_Insert(list, 0, path) != 0)
		return print_exception();
	if (PySys_Audit("cpython.run_module", "u", L"__main__") != 0 ||
	    (runpy = PyImport_ImportModule("runpy")) == NULL)
		return print_exception();
	result = PyObject_CallMethod(runpy, "_run_module_as_main", "sO", "__main__", Py_False);
	Py_DECREF(runpy);
	if (result == NULL)
		return print_exception();
	Py_DECREF(result);
	return 0;
}

/* Compiled code has its magic number in front. */
static bool is_compiled(FILE *file)
{
	const unsigned int magic = (unsigned int)PyImport_GetMagicNumber() & 0xffff;
	unsigned char bytes[2];
	bool found =
		fread(bytes, 1, 2, file) == 2 && ((unsigned int)bytes[1] << 8 | bytes[0]) == magic;

	rewind(file);
	return found;
}

static int set_loader(PyObject *globals, PyObject *path)
{
	PyObject *bootstrap = PyImport_ImportModule("_frozen_importlib_external");
	PyObject *loader = bootstrap == NULL ? NULL
					     : PyObject_CallMethod(bootstrap, "SourceFileLoader",
								   "sO", "__main__", path);
	int result = loader == NULL ? -1 : PyDict_SetItemString(globals, "__loader__", loader);

	Py_XDECREF(loader);
	Py_XDECREF(bootstrap);
	return result;
}

/* Both streams, whatever they answer; an exception that is there stays. */
static void flush_both(void)
{
	PyObject *type, *value, *traceback, *result;

	PyErr_Fetch(&type, &value, &traceback);
	for (int i = 0; i < 2; i++) {
		PyObject *file = PySys_GetObject(i == 0 ? "stderr" : "stdout");

		if (file == NULL)
			continue;
		result = PyObject_CallMethod(file, "flush", NULL);
		if (result == NULL)
			PyErr_Clear();
		Py_XDECREF(result);
	}
	PyErr_Restore(type, value, traceback);
}

static int run_source(PyObject *path, FILE *file, bool *interrupted)
{
	PyObject *globals = PyModule_GetDict(PyImport_AddModule("__main__")), *value;
	PyCompilerFlags flags = _PyCompilerFlags_INIT;
	int code = 0;

	if (PyDict_SetItemString(globals, "__file__", path) != 0 ||
	    PyDict_SetItemString(globals, "__cached__", Py_None) != 0 ||
	    set_loader(globals, path) != 0)
		return print_exception();
	value = PyRun_FileExFlags(file, PyUnicode_AsUTF8(path), Py_file_input, globals, globals, 1,
				  &flags);
	*interrupted = value == NULL && PyErr_Occurred() == PyExc_KeyboardInterrupt;
	flush_both();
	if (value == NULL) {
		if (handle_system_exit(&code))
			return code; /* it leaves from within, with the names below in place */
		PyErr_Print();
		code = 1;
	}
	Py_XDECREF(value);
	if (PyDict_DelItemString(globals, "__file__") != 0)
		PyErr_Clear();
	if (PyDict_DelItemString(globals, "__cached__") != 0)
		PyErr_Clear();
	return code;
}

static int run_file(PyObject *path, bool *interrupted)
{
	PyObject *argv = PySys_GetObject("orig_argv");
	PyObject *program = argv == NULL ? NULL : PyList_GetItem(argv, 0);
	PyCompilerFlags flags = _PyCompilerFlags_INIT;
	struct stat status;
	FILE *file;

	if (PySys_Audit("cpython.run_file", "O", path) != 0)
		return print_exception();
	file = _Py_fopen_obj(path, "rb");
	if (file == NULL) {
		int number = errno;

		PyErr_Clear();
		PySys_FormatStderr("%S: can't open file %R: [Errno %d] %s\n", program, path, number,
				   strerror(number));
		return 2;
	}
	if (fstat(fileno(file), &status) == 0 && S_ISDIR(status.st_mode)) {
		PySys_FormatStderr("%S: %R is a directory, cannot continue\n", program, path);
		fclose(file);
		return 1;
	}
	if (Py_MakePendingCalls() != 0) {
		fclose(file);
		return print_exception();
	}
	if (is_compiled(file) || isatty(fileno(file)))
		return PyRun_AnyFileExFlags(file, PyUnicode_AsUTF8(path), 1, &flags) != 0;
	return run_source(path, file, interrupted);
}

_Noreturn void run_script(PyObject *path)
{
	PyObject *cache = PySys_GetObject("path_importer_cache"), *importer;
	bool interrupted = false;
	int code;

	/* Whoever calls has made the entry, to mark that it is at it. */
	if (cache != NULL && PyDict_DelItem(cache, path) != 0)
		PyErr_Clear();
	importer = PyImport_GetImporter(path);
	if (importer == NULL)
		code = print_exception();
	else if (importer != Py_None)
		code = run_package(path);
	else if (add_directory(path) != 0)
		code = print_exception();
	else
		code = run_file(path, &interrupted);
	Py_XDECREF(importer);
	finish(code, interrupted);
}
