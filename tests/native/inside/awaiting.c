/* Waits for an order as a held interpreter does, and writes what it was given as echo.c does. */
#include "await.h"

#define main echo
#include "echo.c"
#undef main

int main(void)
{
	extern char **environ;
	char **arguments = sandboxd_await();
	int count = 0;

	while (arguments[count])
		count++;
	return sandboxd_await() == NULL ? echo(count, arguments, environ) : 6;
}
