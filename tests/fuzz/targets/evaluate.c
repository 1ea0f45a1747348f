/* The evaluator of seccomp programs: eight bytes of number and architecture, 48 of arguments, the
 * program. It must end, stay within its bytes, and say either a verdict or EINVAL. */
#include "fuzz.h"

#include "host.h"

#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t args[6];
	uint32_t arch, again = 1, verdict = 0;
	uint8_t *program;
	int number, result;

	if (size < 56)
		return 0;
	memcpy(&number, data, 4);
	memcpy(&arch, data + 4, 4);
	memcpy(args, data + 8, 48);
	program = malloc(size - 56);
	memcpy(program, data + 56, size - 56);
	errno = 0;
	result = sbx_evaluate(program, size - 56, arch, number, args, &verdict);
	PROMISE(result == 0 || (result == -1 && errno == EINVAL));
	if (result == 0) {
		PROMISE(sbx_evaluate(program, size - 56, arch, number, args, &again) == 0);
		PROMISE(again == verdict);
	}
	free(program);
	return 0;
}
