/* rehearsal.c: which of an interpreter's memory a small program writes to, learnt by running one.
 */
#ifndef SBX_REHEARSAL_H
#define SBX_REHEARSAL_H

#include <stdbool.h>

/* Fork a copy that shall run a script of ours, given to it as an order on descriptor `socket`. True
 * in that copy, which goes on as one in a sandbox does. In the zygote false, once the copy has run:
 * what it wrote to is known. If it could not run, nothing is. */
bool rehearse(int socket);

/* In a copy: get memory of its own for all that was written to in the rehearsal, at once. */
void own_memory(void);

#endif
