/* The plan reader: what it takes, and that it says what is wrong with anything else. */
#include <stdarg.h>
#include <string.h>

#include "../../native/plan.h"
#include "check.h"

/* Encoded strings; "|" separates them in the text given. */
static size_t encode(char *out, size_t room, const char *text)
{
	size_t len = strlen(text);

	if (len + 16 > room)
		return 0;
	for (size_t i = 0; i <= len; i++) {
		out[i] = text[i] == '|' ? '\0' : text[i];
	}
	return len + 1;
}

static struct err err;
static struct answer answer;

static int read_text(const char *text)
{
	/* Exactly as long as the answer, so that ASan sees one byte too many. */
	size_t room = strlen(text) + 16, len;
	static char *bytes;

	free(bytes);
	bytes = malloc(room);
	len = encode(bytes, room, text);
	bytes = realloc(bytes, len);
	memset(&err, 0, sizeof err);
	return answer_read(bytes, len, &answer, &err);
}

static bool refused(const char *text, const char *because)
{
	if (read_text(text) == 0) {
		answer_free(&answer);
		return false;
	}
	if (strstr(err.detail, because) == NULL)
		fprintf(stderr, "said: %s\n", err.detail);
	return strstr(err.detail, because) != NULL;
}

#define BEGIN "plan|4|userns|1000|1000|image_directory|/image|unshare|mount|"
#define END "pivot|arg|a|exec|/a|end"

static void reads_every_op(void)
{
	CHECK("a plan with every op is read",
	      read_text("plan|4|scope|/run/x|key|1|2|3|4|image_mount|5|/a.sif|6|7|unshare|mount,pid,ipc,uts,net|directory|/d|493|file|/f|420|text|"
	                "symlink|/l|to|root|writable|8|uncovered|/usr|bind|/s|/t|ro,recursive|bind_cwd|/c|optional|tmpfs|/tmp|1023|9|proc|/proc|sysfs|/sys|"
	                "devpts|/pts|mqueue|/mq|file|/tmp/x|0||pivot|hostname|box|no_new_privs|notice|hello|chdir|/c|environ|X=Y|env|A=b=c|arg|end|arg||exec|sh|end") == 0);
	if (!CHECK("its ops are counted", answer.plan.count == 26))
		return;
	const struct op *ops = answer.plan.ops;
	CHECK("strings, numbers and paths are in their fields", strcmp(ops[0].scope.dir, "/run/x") == 0 && strcmp(ops[0].scope.key, "key") == 0 &&
	                                                            ops[0].scope.uid == 1 && ops[0].scope.gid == 2 && ops[0].scope.linger_ms == 3 &&
	                                                            ops[0].scope.cache_bytes == 4);
	CHECK("a handle is a number", ops[1].image_mount.handle == 5 && ops[1].image_mount.offset == 6 && ops[1].image_mount.size == 7);
	CHECK("flags are bits", ops[2].unshare.flags == (FLAG_unshare_mount | FLAG_unshare_pid | FLAG_unshare_ipc | FLAG_unshare_uts | FLAG_unshare_net));
	CHECK("flags of one op are not those of another", ops[8].bind.flags == (FLAG_bind_ro | FLAG_bind_recursive) &&
	                                                      ops[9].bind_cwd.flags == FLAG_bind_cwd_optional);
	CHECK("an empty string is a string", ops[15].file.content[0] == '\0' && ops[24].arg.text[0] == '\0');
	CHECK("an argument may be 'end'", strcmp(ops[23].arg.text, "end") == 0);
	CHECK("op_target finds the target whatever its place", strcmp(op_target(&ops[8]), "/t") == 0 && strcmp(op_target(&ops[3]), "/d") == 0 &&
	                                                           op_target(&ops[16]) == NULL);
	answer_free(&answer);
	CHECK("no handle is -1", read_text("plan|4|scope|/r|k|1|1|0|0|image_mount|-1|/a|0|0|unshare|mount|root||0|" END) == 0 &&
	                             answer.plan.ops[1].image_mount.handle == -1);
	answer_free(&answer);
}

#define RANGES "plan|4|userns_ranges|/usr/bin/newuidmap||0 1000 1 1 100000 65536|0 1000 1|image_directory|/image|"

static void reads_build_steps(void)
{
	CHECK("layers, an upper one, ranges and ids are read",
	      read_text(RANGES "layer|/a|layer|/b|upper|/u|/w|unshare|mount,pid|root|suid|0|pivot|owners|/t|devices|ids|33|34|5 6|arg|a|exec|/a|end") == 0);
	CHECK("the ranges have no gid map program", answer.plan.ops[0].userns_ranges.newgidmap[0] == '\0');
	answer_free(&answer);
	CHECK("a map of two numbers", refused("plan|4|userns_ranges|||0 1|0 1 1|", "triples of ids"));
	CHECK("a map with a word", refused("plan|4|userns_ranges|||0 1 x|0 1 1|", "triples of ids"));
	CHECK("a map with two blanks", refused("plan|4|userns_ranges|||0  1 1|0 1 1|", "triples of ids"));
	CHECK("a map with a blank at its end", refused("plan|4|userns_ranges|||0 1 1 |0 1 1|", "triples of ids"));
	CHECK("an empty map", refused("plan|4|userns_ranges|||0 1 1||", "triples of ids"));
	CHECK("a map program by name", refused("plan|4|userns_ranges|newuidmap||0 1 1|0 1 1|", "not absolute"));
	CHECK("groups that are none", refused(RANGES "unshare|mount|root||0|pivot|ids|1|1|a|", "groups are not ids"));
	CHECK("more groups than there can be", ({
		char text[8192] = RANGES "unshare|mount|root||0|pivot|ids|1|1|";
		for (int i = 0; i < 1021; i++)
			strcat(text, i == 0 ? "7" : " 7");
		refused(text, "groups are not ids");
	}));
	CHECK("a layer after upper", refused(RANGES "upper|/u|/w|layer|/l|unshare|mount|root||0|" END, "has to come before upper"));
	CHECK("two uppers", refused(RANGES "upper|/u|/w|upper|/u|/w|unshare|mount|root||0|" END, "is there already"));
	CHECK("a layer after unshare", refused(BEGIN "layer|/l|root||0|" END, "later stage"));
	CHECK("a tmpfs and upper", refused(RANGES "upper|/u|/w|unshare|mount|root|writable|0|" END, "exclude each other"));
	CHECK("owner with one id", refused(BEGIN "root||0|tmpfs|/t|0|0|owner|/t|1|1|" END, "needs userns_ranges"));
	CHECK("owner of no id", refused(RANGES "unshare|mount|root||0|tmpfs|/t|0|0|owner|/t|4294967295|1|" END, "uid"));
	CHECK("in_place with a layer", refused(RANGES "layer|/l|unshare|mount|root|in_place|0|" END, "image_directory alone"));
	CHECK("in_place of an extracted image", refused("plan|4|userns|1|1|image_extracted|-1|/a|0|0|/d|unshare|mount|root|in_place|0|" END, "image_directory alone"));
	CHECK("set-id bits without ranges", refused(BEGIN "root|suid|0|" END, "suid needs userns_ranges"));
	CHECK("owners without a launcher that stays", refused(BEGIN "root||0|pivot|owners|/t||arg|a|exec|/a|end", "needs unshare pid"));
	CHECK("owners twice", refused(RANGES "unshare|mount,pid|root||0|pivot|owners|/t||owners|/t|devices|arg|a|exec|/a|end", "is there already"));
	CHECK("ids without ranges", refused(BEGIN "root||0|pivot|ids|1|1||arg|a|exec|/a|end", "needs userns_ranges"));
}

static void refuses_encodings(void)
{
	CHECK("nothing at all", answer_read("", 0, &answer, &err) == -EPROTO);
	CHECK("bytes without NUL at the end", answer_read("plan", 4, &answer, &err) == -EPROTO);
	CHECK("an unknown answer", refused("plane|1|end", "unknown answer"));
	CHECK("another version, which it names", refused("plan|1|end", "version 1"));
	CHECK("no version", refused("plan", "no version"));
	CHECK("an unknown op, which it names", refused("plan|4|userns|1|1|mount_all|/|end", "unknown op 'mount_all'"));
	CHECK("a missing end", refused(BEGIN "root||0|pivot|arg|a|exec|/a", "no end"));
	CHECK("bytes after the end", refused(BEGIN "root||0|" END "|x", "after its end"));
	CHECK("an op cut off in its fields", refused("plan|4|userns|1", "gid is not a field"));
	CHECK("an answer that is too long", ({
		char *big = calloc(1, PLAN_MAX_BYTES + 1);
		bool result = answer_read(big, PLAN_MAX_BYTES + 1, &answer, &err) == -EPROTO && strstr(err.detail, "limit") != NULL;
		free(big);
		result;
	}));
}

static void refuses_fields(void)
{
	static const char *const bad_numbers[] = {"", "x", "01", "+1", "-1", " 1", "1 ", "0x1", "4294967295", "18446744073709551616", "99999999999999999999999"};
	static const char *const bad_targets[] = {"x", "", "/x/", "/x//y", "/./x", "/x/.", "/x/..", "/../x", "//x", "/"};
	char text[8192];

	for (size_t i = 0; i < ARRAY_LEN(bad_numbers); i++) {
		snprintf(text, sizeof text, "plan|4|userns|%s|1|image_directory|/i|unshare|mount|root||0|" END, bad_numbers[i]);
		CHECK(bad_numbers[i], refused(text, "op 0 (userns): uid is not a number in range"));
	}
	for (size_t i = 0; i < ARRAY_LEN(bad_targets); i++) {
		snprintf(text, sizeof text, BEGIN "root||0|bind|/s|%s||" END, bad_targets[i]);
		CHECK(bad_targets[i], refused(text, "target is"));
	}
	CHECK("names of 256 bytes", ({
		char name[257];
		memset(name, 'n', 256);
		name[256] = '\0';
		snprintf(text, sizeof text, BEGIN "root||0|tmpfs|/%s|0|0|" END, name);
		refused(text, "target is not");
	}));
	CHECK("paths of 4096 bytes", ({
		char path[4097];
		for (int i = 0; i < 4096; i++)
			path[i] = i % 100 == 0 ? '/' : 'p';
		path[4096] = '\0';
		snprintf(text, sizeof text, BEGIN "root||0|tmpfs|%s|0|0|" END, path);
		refused(text, "target is not");
	}));
	CHECK("names that begin with dots are names", read_text(BEGIN "root||0|tmpfs|/..x/...|0|0|" END) == 0);
	answer_free(&answer);
	CHECK("a relative source", refused(BEGIN "root||0|bind|s|/t||" END, "source is not an absolute path"));
	CHECK("a mode beyond 07777", refused(BEGIN "directory|/d|4096|root||0|" END, "mode is not a number"));
	CHECK("an unknown flag", refused(BEGIN "root||0|bind|/s|/t|rw|" END, "flags is not flags"));
	CHECK("a flag of another op", refused(BEGIN "root|ro|0|" END, "flags is not flags"));
	CHECK("a flag twice", refused(BEGIN "root||0|bind|/s|/t|ro,ro|" END, "flags is not flags"));
	CHECK("an empty flag", refused(BEGIN "root||0|bind|/s|/t|ro,|" END, "flags is not flags"));
	CHECK("an assignment without =", refused(BEGIN "root||0|pivot|env|A|arg|a|exec|/a|end", "NAME=value"));
	CHECK("an assignment without a name", refused(BEGIN "root||0|pivot|env|=A|arg|a|exec|/a|end", "NAME=value"));
	CHECK("the environment twice", refused(BEGIN "root||0|pivot|environ||environ||arg|a|exec|/a|end", "there already"));
	CHECK("an empty file to exec", refused(BEGIN "root||0|pivot|arg|a|exec||end", "no file"));
	CHECK("a directory is uncovered before anything is mounted", read_text(BEGIN "root||0|uncovered|/usr|uncovered|/opt|bind|/s|/usr/x||" END) == 0);
	answer_free(&answer);
	CHECK("uncovered after a mount", refused(BEGIN "root||0|bind|/s|/t||uncovered|/usr|" END, "later stage"));
	CHECK("uncovered, the root", refused(BEGIN "root||0|uncovered|/|" END, "right below the root"));
	CHECK("uncovered, deeper down", refused(BEGIN "root||0|uncovered|/usr/lib|" END, "right below the root"));
	CHECK("a mount over the root", refused(BEGIN "root||0|bind|/s|/||" END, "target is the root"));
	CHECK("neither handle nor path", refused("plan|4|scope|/r|k|1|1|0|0|image_mount|-1||0|0|unshare|mount|root||0|" END, "neither"));
}

static void refuses_orders(void)
{
	CHECK("no user namespace", refused("plan|4|image_directory|/i|unshare|mount|root||0|" END, "before any scope or userns"));
	CHECK("two user namespaces", refused("plan|4|userns|1|1|userns|1|1|image_directory|/i|unshare|mount|root||0|" END, "already a scope"));
	CHECK("no image", refused("plan|4|userns|1|1|unshare|mount|root||0|" END, "before any image"));
	CHECK("two images", refused("plan|4|userns|1|1|image_directory|/i|image_directory|/i|unshare|mount|root||0|" END, "already a image"));
	CHECK("what is recorded, read ahead or staged belongs to an image mount",
	      refused("plan|4|userns|1|1|record|/r|image_directory|/i|unshare|mount|root||0|" END, "no image mount"));
	CHECK("a record without a path", refused("plan|4|scope|/r|k|1|1|0|0|record||image_mount|3|/a|0|0|unshare|mount|root||0|" END, "not an absolute path"));
	CHECK("a relative place for a copy", refused("plan|4|scope|/r|k|1|1|0|0|stage|x/y||image_mount|3|/a|0|0|unshare|mount|root||0|" END, "stage"));
	CHECK("they come before it", refused("plan|4|scope|/r|k|1|1|0|0|image_mount|3|/a|0|0|hot|1|2|unshare|mount|root||0|" END, "later stage"));
	CHECK("an image mount without a scope", refused("plan|4|userns|1|1|image_mount|3|/a|0|0|unshare|mount|root||0|" END, "needs a scope"));
	CHECK("unshare without mount", refused("plan|4|userns|1|1|image_directory|/i|unshare|pid|root||0|" END, "mount is missing"));
	CHECK("no root", refused(BEGIN END, "before any root"));
	CHECK("two roots", refused(BEGIN "root||0|root||0|" END, "already a root"));
	CHECK("a mount before the root", refused(BEGIN "tmpfs|/t|0|0|root||0|" END, "before any root"));
	CHECK("a mount after the pivot", refused(BEGIN "root||0|pivot|tmpfs|/t|0|0|arg|a|exec|/a|end", "later stage"));
	CHECK("no pivot", refused(BEGIN "root||0|arg|a|exec|/a|end", "before any pivot"));
	CHECK("content after the pivot", refused(BEGIN "root||0|pivot|file|/t|0|x|arg|a|exec|/a|end", "later stage"));
	CHECK("an op after exec", refused(BEGIN "root||0|pivot|arg|a|exec|/a|arg|b|end", "later stage"));
	CHECK("two execs", refused(BEGIN "root||0|pivot|arg|a|exec|/a|exec|/a|end", "already a exec"));
	CHECK("no exec", refused(BEGIN "root||0|pivot|arg|a|end", "no exec"));
	CHECK("no arg", refused(BEGIN "root||0|pivot|exec|/a|end", "no arg"));
	CHECK("a host name without its namespace", refused(BEGIN "root||0|pivot|hostname|h|arg|a|exec|/a|end", "needs unshare uts"));
	CHECK("an empty plan", refused("plan|4|end", "no exec"));
}

static void bounds_the_number_of_ops(void)
{
	size_t room = 32 + (PLAN_MAX_OPS + 8) * 8;
	char *bytes = malloc(room);
	size_t len = encode(bytes, room, BEGIN "root||0|pivot");

	while (len < room - 64)
		len += encode(bytes + len, 32, "arg|a");
	len += encode(bytes + len, 64, "exec|/a|end");
	CHECK("more than 100000 ops are refused", answer_read(bytes, len, &answer, &err) == -EPROTO && strstr(err.detail, "more than 100000 ops") != NULL);
	free(bytes);
}

static void reads_other_answers(void)
{
	CHECK("print", read_text("print|hello\n|0") == 0 && answer.kind == ANSWER_PRINT && strcmp(answer.text, "hello\n") == 0 && answer.status == 0);
	CHECK("fail", read_text("fail|no|127") == 0 && answer.kind == ANSWER_FAIL && answer.status == 127);
	CHECK("a status beyond 255", refused("fail|no|256", "status"));
	CHECK("no status", refused("fail|no", "status"));
	CHECK("more behind the status", refused("print|a|0|b", "status"));
	CHECK("node", read_text("node|") == 0 && answer.kind == ANSWER_NODE && answer.node[0] == '\0');
	CHECK("a relative node", refused("node|bin/node", "not absolute"));
	CHECK("bytes behind node", refused("node||x", "after its end"));
	CHECK("prepare, with 'end' among its arguments",
	      read_text("prepare|/n|pull|end|x|end") == 0 && answer.kind == ANSWER_PREPARE && strcmp(answer.args[0], "pull") == 0 &&
	          strcmp(answer.args[1], "end") == 0 && strcmp(answer.args[2], "x") == 0 && answer.args[3] == NULL);
	answer_free(&answer);
	CHECK("prepare without end", refused("prepare|/n|pull", "no end"));
	CHECK("prepare without anything", refused("prepare|/n", "no end"));
}

int main(void)
{
	reads_every_op();
	reads_build_steps();
	refuses_encodings();
	refuses_fields();
	refuses_orders();
	bounds_the_number_of_ops();
	reads_other_answers();
	return check_end();
}
