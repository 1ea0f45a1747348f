/* The same as an agent of the JVM, `-agentpath:`. It waits when the machine is up and its main
 * class is not yet looked for. JNI and JVMTI are stable tables of functions, and what is used of
 * them is this. */
#include "await.h"

#include <stddef.h>
#include <stdint.h>

typedef void *const **interface; /* a pointer to a pointer to the table */
typedef void (*vm_init)(interface tools, interface jni, void *thread);

enum { JVMTI_VERSION_1_2 = 0x30010200, VM_INIT = 50, ENABLE = 1 };
enum { GET_ENV = 6 }; /* of JNIInvokeInterface */
enum { SET_EVENT_NOTIFICATION_MODE = 1, SET_EVENT_CALLBACKS = 121, DISPOSE_ENVIRONMENT = 126 };

typedef int32_t get_env(interface machine, void **tools, int32_t version);
typedef int32_t set_event_notification_mode(interface tools, int mode, int event, void *thread,
					    ...);
typedef int32_t set_event_callbacks(interface tools, const vm_init *first, int32_t size);
typedef int32_t dispose_environment(interface tools);

#define CALL(name, index, object, ...) ((name *)(uintptr_t)(*(object))[index])(object, __VA_ARGS__)

static void wait_for_order(interface tools, interface jni, void *thread)
{
	(void)jni;
	(void)thread;
	sandboxd_await(); /* the launcher has its arguments already: there are none of a run's */
	((dispose_environment *)(uintptr_t)(*tools)[DISPOSE_ENVIRONMENT])(tools);
}

__attribute__((visibility("default"))) int32_t Agent_OnLoad(interface machine, char *options,
							    void *reserved);
int32_t Agent_OnLoad(interface machine, char *options, void *reserved)
{
	const vm_init first = wait_for_order;
	interface tools;

	(void)options;
	(void)reserved;
	if (CALL(get_env, GET_ENV, machine, (void **)&tools, JVMTI_VERSION_1_2) != 0 ||
	    CALL(set_event_callbacks, SET_EVENT_CALLBACKS, tools, &first, sizeof(first)) != 0)
		return 1;
	return CALL(set_event_notification_mode, SET_EVENT_NOTIFICATION_MODE, tools, ENABLE,
		    VM_INIT, NULL);
}
