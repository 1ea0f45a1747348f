/* Waiting for an order, in an interpreter that is held in its sandbox. */
#ifndef SBX_AWAIT_H
#define SBX_AWAIT_H

/* Say that the interpreter is ready and block until its order has come and been put in place. The
 * arguments, ended by NULL, or NULL if this has been called before: the interpreter runs already. A
 * failure is told to the host and ends the process. Descriptor 3 is the socket; it is closed. */
__attribute__((visibility("default"))) char **sandboxd_await(void);

#endif
