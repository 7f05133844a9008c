/* The payload's environment: what a plan passes of what was inherited, whatever that holds. */
#include <string.h>

#include "../../native/environment.h"
#include "check.h"

static struct op env(const char *assignment)
{
	return (struct op){.kind = OP_env, .env.assignment = assignment};
}

static struct op environ_without(const char *left_out)
{
	return (struct op){.kind = OP_environ, .environ.left_out = left_out};
}

/* The payload gets `expected`, a '|' behind each entry. */
static bool gets(struct op *ops, size_t count, const char *const *inherited, const char *expected)
{
	struct plan plan = {.ops = ops, .count = count};
	cleanup_free char **all = environment_of(&plan, (char *const *)(uintptr_t)inherited);
	char shown[512] = "";

	for (size_t i = 0; all != NULL && all[i] != NULL; i++)
		snprintf(shown + strlen(shown), sizeof shown - strlen(shown), "%s|", all[i]);
	if (strcmp(shown, expected) != 0)
		fprintf(stderr, "got: %s\n", shown);
	return all != NULL && strcmp(shown, expected) == 0;
}

int main(void)
{
	static const char *const usual[] = {"B=1", "A=2", "LONGER=3", "LONG=4", NULL};
	static const char *const hostile[] = {"A=1", "", "=", "=x", "bare", "A=2", "A==3", "AB=", "\xff\n=4", "B=a=b", NULL};
	static const char *const none[] = {NULL};

	CHECK("without environ nothing is passed", gets((struct op[]){env("X=1")}, 1, usual, "X=1|"));
	CHECK("what is passed keeps its order, before what is given", gets((struct op[]){environ_without(""), env("X=1")}, 2, usual, "B=1|A=2|LONGER=3|LONG=4|X=1|"));
	CHECK("what is given is not passed, wherever it stands", gets((struct op[]){env("B="), environ_without(""), env("LONG=x")}, 3, usual, "A=2|LONGER=3|B=|LONG=x|"));
	CHECK("names are left out, whole ones", gets((struct op[]){environ_without("LONG")}, 1, usual, "B=1|A=2|LONGER=3|"));
	CHECK("several names are", gets((struct op[]){environ_without("A=NONE=LONGER=B")}, 1, usual, "LONG=4|"));
	CHECK("of a doubled name the first is passed; what has no name or no value is no variable", gets((struct op[]){environ_without("")}, 1, hostile, "A=1|AB=|\xff\n=4|B=a=b|"));
	CHECK("of a name that is left out none is passed", gets((struct op[]){environ_without("A=B")}, 1, hostile, "AB=|\xff\n=4|"));
	CHECK("nothing inherited", gets((struct op[]){environ_without("A"), env("X=1")}, 2, none, "X=1|"));
	return check_end();
}
