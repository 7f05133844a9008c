/* engine_run BUNDLE FUNCTION [ARGV…]: one call of a bundle in the embedded engine on the real machine, with ARGV as its arguments. The function's input
 * comes from stdin (64 KiB at most), its answer goes to stdout. test/contract/engine.test.ts holds it against Node. */
#include "../../native/engine/engine.h"

#include <stdio.h>
#include <sys/stat.h>

int main(int argc, char **argv)
{
	struct host host = {.argc = argc > 3 ? argc - 3 : 0, .argv = argv + 3, .envp = environ};
	struct host_ops ops = host_ops_of(&host);
	struct err err = {0};
	struct engine *engine;
	struct stat st;
	static char input[65536];
	char *bundle, *answer;
	size_t input_len, len;
	FILE *file;
	int error;

	file = argc >= 3 ? fopen(argv[1], "rb") : NULL;
	if (file == NULL || fstat(fileno(file), &st) != 0) {
		fprintf(stderr, "usage: engine_run BUNDLE FUNCTION [ARGV…]\n");
		return 1;
	}
	bundle = malloc((size_t)st.st_size + 1);
	if (bundle == NULL || fread(bundle, 1, (size_t)st.st_size, file) != (size_t)st.st_size)
		return 1;
	fclose(file);
	input_len = fread(input, 1, sizeof input, stdin);
	error = engine_start_text(&engine, &ops, bundle, (size_t)st.st_size, "planner.js", &err);
	if (error == 0)
		error = engine_call(engine, argv[2], input, input_len, &answer, &len, &err);
	if (error != 0) {
		fprintf(stderr, "engine_run: %s: %s\n", err.step, err.detail);
		return 1;
	}
	error = write_full(STDOUT_FILENO, answer, len);
	free(answer);
	free(bundle);
	engine_free(engine);
	host_release(&host);
	return error == 0 ? 0 : 1;
}
