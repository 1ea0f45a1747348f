/* The same as an addon of Node. Node-API is stable, and what is used of it is this; weak, so that
 * other interpreters can load the module too. */
#include "await.h"

#include <stddef.h>

typedef struct napi_env__ *napi_env;
typedef struct napi_value__ *napi_value;

#pragma weak napi_create_array
#pragma weak napi_create_string_utf8
#pragma weak napi_set_element
extern int napi_create_array(napi_env env, napi_value *result);
extern int napi_create_string_utf8(napi_env env, const char *text, size_t length,
				   napi_value *result);
extern int napi_set_element(napi_env env, napi_value array, unsigned index, napi_value value);
napi_value napi_register_module_v1(napi_env env, napi_value exports);

#define TO_ITS_NUL ((size_t)-1)

/* What the addon exports: the arguments, or nothing where there is no order to wait for, as in
 * threads. */
__attribute__((visibility("default"))) napi_value napi_register_module_v1(napi_env env,
									  napi_value exports)
{
	char **arguments = sandboxd_await();
	napi_value list, text;

	if (arguments == NULL || napi_create_array(env, &list) != 0)
		return exports;
	for (unsigned i = 0; arguments[i]; i++)
		if (napi_create_string_utf8(env, arguments[i], TO_ITS_NUL, &text) != 0 ||
		    napi_set_element(env, list, i, text) != 0)
			return exports;
	return list;
}
