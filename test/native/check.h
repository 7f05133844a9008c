/* Facts and their count, for native tests:
 *
 *     CHECK("a missing file is -ENOENT", host_stat(…) == -ENOENT);
 *     SKIP("FUSE: /dev/fuse cannot be opened here");
 *     return check_end();
 *
 * A fact that does not hold is printed with its place and the test goes on. */
#ifndef TSRUN_TEST_CHECK_H
#define TSRUN_TEST_CHECK_H

#include <stdbool.h>
#include <stdio.h>

static int check_passed, check_failed, check_skipped;

__attribute__((unused)) static bool check_fact(const char *fact, bool holds, const char *file, int line, const char *condition)
{
	if (holds) {
		check_passed++;
	} else {
		check_failed++;
		fprintf(stderr, "%s:%d: not so: %s\n    %s\n", file, line, fact, condition);
	}
	return holds;
}

#define CHECK(fact, condition) check_fact(fact, (condition), __FILE__, __LINE__, #condition)

#define SKIP(reason) (check_skipped++, fprintf(stderr, "skipped: %s\n", reason))

__attribute__((unused)) static int check_end(void)
{
	printf("%d passed, %d failed, %d skipped\n", check_passed, check_failed, check_skipped);
	return check_failed == 0 ? 0 : 1;
}

#endif
