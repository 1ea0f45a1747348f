/* The executable sandbox-init; see init.c. */
#include "init.h"

int main(void)
{
	static struct init init;

	init_run(&init);
	if (init.plan.head.flags & SBX_PLAN_ZYGOTE)
		become_zygote(&init);
	runner(&init);
}
