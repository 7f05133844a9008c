/* The host calls, each against the real machine. */
#include "../../native/host_internal.h"
#include "check.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>

static struct host host;
static struct host_reply reply;
static char directory[] = "/tmp/tsrun-host-test-XXXXXX";

static struct host_value text(const char *bytes)
{
	return (struct host_value){.bytes = bytes, .len = strlen(bytes)};
}
static struct host_value number(int64_t value)
{
	return (struct host_value){.number = value};
}

/* Makes a call; text answers are left in `reply` with a NUL behind. */
#define ASK(call, ...)                                                                                                                \
	ask(call, (struct host_value[]){__VA_ARGS__}, sizeof((struct host_value[]){__VA_ARGS__}) / sizeof(struct host_value))
static int64_t ask(uint32_t call, const struct host_value *args, size_t count)
{
	int64_t result = host_call(&host, call, args, count, &reply);

	if (host_reply_room(&reply, 1) == 0)
		reply.data[reply.len] = 0;
	return result;
}
static int64_t ask_plain(uint32_t call)
{
	return ask(call, NULL, 0);
}
static bool answered(int64_t result, const char *expected)
{
	bool same = result == 0 && reply.text && reply.len == strlen(expected) && memcmp(reply.data, expected, reply.len) == 0;

	if (!same)
		fprintf(stderr, "got %lld: %s\n", (long long)result, reply.data);
	return same;
}

/* Items, one after the other: a number in digits or a text, each with a "|" behind. */
static bool listed(int64_t result, const char *expected)
{
	char shown[4096] = "";
	struct host_item item;

	for (size_t at = 0; result == 0 && reply.list && at < reply.len; at += sizeof item + (item.text ? (size_t)item.number : 0)) {
		size_t len = strlen(shown);

		memcpy(&item, reply.data + at, sizeof item);
		if (item.text)
			snprintf(shown + len, sizeof shown - len, "%.*s|", (int)item.number, reply.data + at + sizeof item);
		else
			snprintf(shown + len, sizeof shown - len, "%lld|", (long long)item.number);
	}
	if (result == 0 && reply.list && strcmp(shown, expected) == 0)
		return true;
	fprintf(stderr, "got %lld: %s\n", (long long)result, shown);
	return false;
}

static int64_t first_number(void)
{
	struct host_item item;

	memcpy(&item, reply.data, sizeof item);
	return item.number;
}

static const char *in_directory(const char *name)
{
	static char path[4][512];
	static int next;

	next = (next + 1) % 4;
	snprintf(path[next], sizeof path[next], "%s/%s", directory, name);
	return path[next];
}

static void make_file(const char *name, const char *content, size_t len)
{
	int fd = open(in_directory(name), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0640);

	if (fd < 0 || write(fd, content, len) != (ssize_t)len) {
		perror(name);
		exit(1);
	}
	close(fd);
}

static void what_the_process_was_given(void)
{
	static char *const argv[] = {(char *)"tsrun", (char *)"", (char *)"a\xff", NULL};
	static char *const envp[] = {(char *)"A=1", (char *)"=odd", (char *)"B=x\ny=z", (char *)"bare", (char *)"BB=", (char *)"B=again", NULL};
	char expected[2048], cwd[256];
	gid_t groups[64];
	int count = getgroups(64, groups);
	struct utsname name;

	host.argc = 3;
	host.argv = argv;
	host.envp = envp;
	CHECK("arguments come as they are, empty ones too", listed(ask_plain(HOST_args), "tsrun||a\xff|"));
	CHECK("so does the environment, name by name; what has none is left out", listed(ASK(HOST_environ, text("")), "0|A|1|0|B|x\ny=z|0|BB||"));
	CHECK("variables that a word names come with its number", listed(ASK(HOST_environ, text("\2AB\1B")), "1|B|x\ny=z|") && listed(ASK(HOST_environ, text("\1B\1A")), "1|A|1|0|B|x\ny=z|"));
	CHECK("the first word that names one counts", listed(ASK(HOST_environ, text("\2B*\2BB\1B")), "0|B|x\ny=z|0|BB||") && listed(ASK(HOST_environ, text("\2BB\2B*")), "1|B|x\ny=z|0|BB||"));
	CHECK("a star alone names all", listed(ASK(HOST_environ, text("\2BB\1*")), "1|A|1|1|B|x\ny=z|0|BB||"));
	CHECK("what has no value is no variable, nor is a longer word", listed(ASK(HOST_environ, text("\4bare\3A=1\1=\4BBB*")), ""));
	CHECK("a variable's value, of a doubled one the first", answered(ASK(HOST_getenv, text("B")), "x\ny=z") && answered(ASK(HOST_getenv, text("BB")), ""));
	CHECK("what is none", ASK(HOST_getenv, text("bare")) == -ENOENT && ASK(HOST_getenv, text("")) == -ENOENT && ASK(HOST_getenv, text("B=x")) == -ENOENT);
	host.envp = NULL;
	CHECK("an empty list is one", listed(ASK(HOST_environ, text("")), "") && listed(ASK(HOST_environ, text("\1A")), ""));
	CHECK("words that end too early", ASK(HOST_environ, text("\1A\2B")) == -EINVAL && ASK(HOST_environ, text("\1")) == -EINVAL);
	CHECK("nothing is in it", ASK(HOST_getenv, text("A")) == -ENOENT);
	CHECK("getcwd", getcwd(cwd, sizeof cwd) != NULL && answered(ask_plain(HOST_getcwd), cwd));
	snprintf(expected, sizeof expected, "%u|%u|%u|%u|", getuid(), geteuid(), getgid(), getegid());
	for (int i = 0; i < count; i++)
		snprintf(expected + strlen(expected), sizeof expected - strlen(expected), "%u|", groups[i]);
	CHECK("ids, then the groups", listed(ask_plain(HOST_ids), expected));
	uname(&name);
	snprintf(expected, sizeof expected, "%s|%s|%s|%s|", name.sysname, name.nodename, name.release, name.machine);
	CHECK("uname has four strings", listed(ask_plain(HOST_uname), expected));
	CHECK("self_exe is this program", ask_plain(HOST_self_exe) == 0 && strstr(reply.data, "host_test") != NULL);
	CHECK("fnv64", answered(ASK(HOST_fnv64, text("")), "cbf29ce484222325") && answered(ASK(HOST_fnv64, text("foobar")), "85944171f73967e8"));
	CHECK("isatty takes 0 to 2 only", ASK(HOST_isatty, number(3)) == -EINVAL && ASK(HOST_isatty, number(-1)) == -EINVAL);
}

static struct chars chars(const char *text)
{
	return (struct chars){text, text + strlen(text)};
}

static bool account(const char *text, int64_t uid, const char *name, const char *expected)
{
	host_reply_clear(&reply);
	return listed(host_list_account(chars(text), uid, name, strlen(name), &reply), expected);
}

static bool groups(const char *text, gid_t first, gid_t second, const char *expected)
{
	host_reply_clear(&reply);
	return listed(host_list_groups(chars(text), (const gid_t[]){first, second}, 2, &reply), expected);
}

static void accounts(void)
{
	static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\n\n:::\nme:x:10:1:Me,,:/home/me:/bin/bash\nother:x:10:1:::\n10:x:11:10:10:10:10\nlast:x:12:1:a:/b";

	CHECK("the fields of the first line of a uid", account(passwd, 10, "", "me|Me,,|/home/me|/bin/bash|0|"));
	CHECK("an id is matched in its field, as a whole", account(passwd, 1, "", "||||0|") && account(passwd, 11, "", "10|10|10|10|0|"));
	CHECK("a last line without its end, or all its fields", account(passwd, 12, "", "last|a|/b||0|"));
	CHECK("a name that has a line is known, a part of one is not", account(passwd, 99, "other", "||||1|") && account(passwd, 99, "othe", "||||0|") && account(passwd, 99, "x", "||||0|"));
	CHECK("a name known behind the caller's own line", account(passwd, 0, "last", "root|root|/root|/bin/sh|1|"));
	CHECK("ids as nobody writes them are none", account("a:x:010:0:::\nb:x:+10:\nc:x::\nd:x:99999999999:\ne:x:1 0:\n", 10, "", "||||0|"));
	CHECK("no text", account("", 0, "a", "||||0|") && groups("", 1, 2, "||"));
	CHECK("names of groups, in the order asked, the first of each", groups("b:x:2:me\na:x:1:\nc:x:1:\nd:x:3", 1, 2, "a|b|") && groups("b:x:2\nd:x:3", 3, 2, "d|b|") && groups("b:x:2:\n", 2, 7, "b||"));
	CHECK("this machine's are asked", ASK(HOST_accounts, text("root")) == 0 && reply.list);
}

static void a_deleted_directory(void)
{
	pid_t pid;
	int status = 1;

	mkdir(in_directory("gone"), 0700);
	pid = fork();
	if (pid == 0)
		_exit(chdir(in_directory("gone")) == 0 && rmdir(in_directory("gone")) == 0 && ask_plain(HOST_getcwd) == -ENOENT ? 0 : 1);
	CHECK("a deleted current directory is -ENOENT", waitpid(pid, &status, 0) == pid && status == 0);
}

static void files(void)
{
	char expected[512];
	struct stat st;
	int64_t result;

	make_file("file", "0123456789", 10);
	CHECK("symlink", symlink("no\xffwhere", in_directory("link")) == 0);
	chmod(in_directory("file"), 0640);
	stat(in_directory("file"), &st);
	snprintf(expected, sizeof expected, "33184|%u|%u|10|%lld.%09ld|%lld.%09ld|%llu|%llu|", st.st_uid, st.st_gid, (long long)st.st_mtim.tv_sec,
		 st.st_mtim.tv_nsec, (long long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec, (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	CHECK("stat tells what stat(2) tells", listed(ASK(HOST_stat, text(in_directory("file"))), expected));
	CHECK("lstat sees the link, stat what it leads to",
	      ASK(HOST_lstat, text(in_directory("link"))) == 0 && first_number() == 0120777 &&
		      ASK(HOST_stat, text(in_directory("link"))) == -ENOENT);
	CHECK("readlink", answered(ASK(HOST_readlink, text(in_directory("link"))), "no\xffwhere"));
	CHECK("readlink of a file is -EINVAL", ASK(HOST_readlink, text(in_directory("file"))) == -EINVAL);
	symlink(".", in_directory("here"));
	symlink("round", in_directory("round"));
	CHECK("a real path has no link in it, and is there", answered(ASK(HOST_real_path, text(in_directory("here/./here/file"))), in_directory("file")) &&
		ASK(HOST_real_path, text(in_directory("link"))) == -ENOENT && ASK(HOST_real_path, text(in_directory("round"))) == -ELOOP);
	CHECK("access", ASK(HOST_access, text(in_directory("file")), number(R_OK)) == 0 &&
				ASK(HOST_access, text(in_directory("file")), number(X_OK)) == -EACCES &&
				ASK(HOST_access, text(in_directory("file")), number(8)) == -EINVAL);
	CHECK("statfs of /proc names its type", ASK(HOST_statfs, text("/proc")) == 0x9fa0);

	CHECK("read from an offset to a limit", answered(ASK(HOST_read, text(in_directory("file")), number(2), number(3)), "234"));
	CHECK("read to the end", answered(ASK(HOST_read, text(in_directory("file")), number(8), number(100)), "89"));
	CHECK("read behind the end", answered(ASK(HOST_read, text(in_directory("file")), number(50), number(100)), ""));
	result = ASK(HOST_read, text("/proc/self/status"), number(0), number(100000));
	CHECK("files of /proc, that tell no size, are read whole", result == 0 && strstr(reply.data, "nonvoluntary_ctxt_switches") != NULL);
	CHECK("limits of a read", ASK(HOST_read, text(in_directory("file")), number(0), number(HOST_READ_MAX + 1)) == -EINVAL &&
					  ASK(HOST_read, text(in_directory("file")), number(-1), number(1)) == -EINVAL &&
					  ASK(HOST_read, text(in_directory("file")), number(0), number(-1)) == -EINVAL);
	CHECK("a directory is not read", ASK(HOST_read, text("/"), number(0), number(1)) == -EISDIR);
	CHECK("a device is not opened", ASK(HOST_read, text("/dev/zero"), number(0), number(1)) == -ENOTSUP &&
						ASK(HOST_open_keep, text("/dev/zero")) == -ENOTSUP);
	CHECK("mkfifo", mkfifo(in_directory("pipe"), 0600) == 0);
	CHECK("a named pipe neither, and nothing waits for it", ASK(HOST_read, text(in_directory("pipe")), number(0), number(1)) == -ENOTSUP);
	CHECK("what is kept is looked at by fstat", ASK(HOST_fstat, number(ASK(HOST_open_keep, text(in_directory("pipe"))))) == -ENOTSUP);
	host_release(&host);
	CHECK("a missing file is -ENOENT", ASK(HOST_read, text(in_directory("missing")), number(0), number(1)) == -ENOENT);
}

static void a_shells_pipe(void)
{
	int ends[2];
	char path[64];

	CHECK("pipe", pipe2(ends, O_CLOEXEC) == 0 && write(ends[1], "A=1\n", 4) == 4);
	close(ends[1]);
	snprintf(path, sizeof path, "/dev/fd/%d", ends[0]);
	CHECK("a pipe that the shell made is read by its number", answered(ASK(HOST_read, text(path), number(0), number(100)), "A=1\n"));
	close(ends[0]);
}

static void directories(void)
{
	CHECK("mkdir", mkdir(in_directory("many"), 0700) == 0 && mkdir(in_directory("many/d"), 0700) == 0);
	make_file("many/f", "", 0);
	CHECK("symlink", symlink("x", in_directory("many/l")) == 0);
	CHECK("readdir lists types and names", ASK(HOST_readdir, text(in_directory("many")), number(3)) == 0 && reply.list &&
						       reply.len == 3 * (sizeof(struct host_item) + 2) && memmem(reply.data, reply.len, "dd", 2) != NULL &&
						       memmem(reply.data, reply.len, "ff", 2) != NULL && memmem(reply.data, reply.len, "ll", 2) != NULL);
	CHECK("more entries than asked for are -EOVERFLOW, never a part", ASK(HOST_readdir, text(in_directory("many")), number(2)) == -EOVERFLOW);
	CHECK("readdir of a file is -ENOTDIR", ASK(HOST_readdir, text(in_directory("many/f")), number(2)) == -ENOTDIR);
}

static void kept_files(void)
{
	struct host_ops ops = host_ops_of(&host);
	char buffer[16];
	int64_t first, second, fields;
	int fd;

	first = ASK(HOST_open_keep, text(in_directory("file")));
	second = ASK(HOST_open_keep, text(directory));
	CHECK("files and directories are kept, counted from 0", first == 0 && second == 1);
	make_file("other", "other", 5);
	CHECK("rename", rename(in_directory("other"), in_directory("file")) == 0);
	CHECK("a kept file stays the same when its name goes to another", answered(ASK(HOST_pread, number(first), number(4), number(3)), "456"));
	CHECK("fstat", ASK(HOST_fstat, number(first)) == 0 && first_number() == 0100640);
	CHECK("what is not a handle is -EBADF", ASK(HOST_pread, number(7), number(0), number(1)) == -EBADF && ASK(HOST_fstat, number(-1)) == -EBADF);
	make_file("fields", "\x01\x02\x03\x04name\0\0\0\0\xff\xff\xff\xff\xff\xff\x1f\0\0\0\0\0\0\0\x20\0\x80\xff", 30);
	fields = ASK(HOST_open_keep, text(in_directory("fields")));
	CHECK("fields are unpacked by a layout", listed(ASK(HOST_unpack, number(fields), number(0), text("B3x8s2QH")), "1|name|9007199254740991|-1|65408|"));
	CHECK("numbers are little-endian, a text may fill its field", listed(ASK(HOST_unpack, number(fields), number(0), text("HH3s")), "513|1027|nam|"));
	CHECK("from an offset", listed(ASK(HOST_unpack, number(fields), number(2), text("2B")), "3|4|"));
	CHECK("a number that is 0 where it must not be ends the list", listed(ASK(HOST_unpack, number(fields), number(0), text("HHEEB")), "513|1027|1701667182|"));
	CHECK("fields behind the end are -ENODATA", ASK(HOST_unpack, number(fields), number(0), text("31s")) == -ENODATA &&
	                                                ASK(HOST_unpack, number(fields), number(29), text("H")) == -ENODATA);
	CHECK("what is no layout is -EINVAL", ASK(HOST_unpack, number(fields), number(0), text("2")) == -EINVAL &&
	                                          ASK(HOST_unpack, number(fields), number(0), text("Bz")) == -EINVAL &&
	                                          ASK(HOST_unpack, number(fields), number(0), text("99999999999999999999x")) == -EINVAL &&
	                                          ASK(HOST_unpack, number(fields), number(0), text("65536s65536s")) == -EINVAL &&
	                                          ASK(HOST_unpack, number(fields), number(-1), text("B")) == -EINVAL);
	CHECK("fields of a directory are -EISDIR", ASK(HOST_unpack, number(second), number(0), text("B")) == -EISDIR);
	fd = ops.take_fd(ops.context, first);
	CHECK("it can be taken", fd >= 0 && pread(fd, buffer, sizeof buffer, 0) == 10);
	CHECK("and is gone then", ASK(HOST_fstat, number(first)) == -EBADF && ops.take_fd(ops.context, first) == -EBADF);
	close(fd);
	for (int i = 3; i < HOST_KEPT_MAX; i++)
		ASK(HOST_open_keep, text(directory));
	CHECK("there is an end to it", ASK(HOST_open_keep, text(directory)) == -EMFILE);
	host_release(&host);
	CHECK("released: all closed", ASK(HOST_fstat, number(second)) == -EBADF);
}

static bool json(const char *object, const char *names, const char *expected)
{
	return listed(ASK(HOST_json, text(object), text(names)), expected);
}
static int64_t not_json(const char *object, const char *names)
{
	return ASK(HOST_json, text(object), text(names));
}

static void members(void)
{
	static const char object[] = " {\"a\" : \"x\", \"n\":12,\"yes\":true,\"no\":false, \"l\":[\"p\",\"\", \"q r\"],\"none\":[],"
				     "\"o\":{\"}\":[\"]\"]},\"esc\":\"\\\"\\\\\\/\\n\\u00e9\",\"k\\u00e9\\\\y\":\"e\"}\n";

	CHECK("members in the order in which they are asked for", json(object, "nn\nsa\nbyes\nbno", "12|x|1|0|"));
	CHECK("a name that is there twice is -EBADMSG, since others might take the other one",
	      not_json("{\"a\":\"x\",\"a\":\"y\"}", "sa") == -EBADMSG && not_json("{\"a\":\"x\",\"\\u0061\":\"y\"}", "sa") == -EBADMSG &&
		      not_json("{\"o\":{\"p\":\"x\"},\"o\":1}", "so.p") == -EBADMSG && not_json("{\"o\":{},\"\\u006f\":{\"p\":\"x\"}}", "so.p") == -EBADMSG &&
		      not_json("{\"o\":{\"p\":\"x\",\"p\":\"x\"}}", "so.p") == -EBADMSG);
	CHECK("one that nobody asked for may be", json("{\"b\":1,\"b\":2,\"o\":{\"p\":\"x\",\"q\":{\"p\":1}},\"p\":1,\"a\":\"y\"}", "sa\nso.p", "y|x|"));
	CHECK("bytes behind the object are -EBADMSG", not_json("{\"a\":\"x\"}}", "sa") == -EBADMSG && not_json("{\"a\":\"x\"} x", "sa") == -EBADMSG);
	CHECK("escapes are decoded", json(object, "sesc", "\"\\/\n\xe9|"));
	CHECK("also in names", json(object, "sk\xe9\\y", "e|"));
	CHECK("an object is its text", json(object, "oo", "{\"}\":[\"]\"]}|"));
	CHECK("a list is its strings, each with a NUL", ASK(HOST_json, text(object), text("ll")) == 0 && reply.list &&
	                                                      reply.len == sizeof(struct host_item) + 7 && memcmp(reply.data + sizeof(struct host_item), "p\0\0q r", 7) == 0);
	CHECK("an empty one is nothing", json(object, "lnone", "|"));
	CHECK("what is missing is -ENOENT", not_json(object, "sb") == -ENOENT && not_json("{}", "sa") == -ENOENT);
	CHECK("what is something else is -EBADMSG", not_json(object, "sn") == -EBADMSG && not_json(object, "na") == -EBADMSG && not_json(object, "ba") == -EBADMSG &&
	                                                not_json(object, "la") == -EBADMSG && not_json(object, "ol") == -EBADMSG && not_json("{\"l\":[1]}", "ll") == -EBADMSG &&
	                                                not_json("{\"n\":1.5}", "nn") == -EBADMSG && not_json("{\"n\":-1}", "nn") == -EBADMSG);
	CHECK("a NUL and a char that is no byte too", not_json("{\"a\":\"\\u0000\"}", "sa") == -EBADMSG && not_json("{\"a\":\"\\u0100\"}", "sa") == -EBADMSG);
	for (const char *const *each = (const char *const[]){"", "[]", "x", "{", "{\"", "{\"a", "{\"a\"", "{\"a\":", "{\"a\":\"", "{\"a\":\"\\", "{\"a\":\"\\u00", "{\"b\":[", "{\"b\":[1,",
	                                                     "{\"b\":{\"c\"", "{\"b\":1,", "{\"b\":1,}", "{\"b\" 1}", "{\"b\":}", "{\"a\":\"\n\"}", "{a:1}", "{\"a\":\"\\x\"}", NULL};
	     *each != NULL; each++)
		CHECK(*each, not_json(*each, "sa") == -EBADMSG);
	CHECK("what is nested too deep is refused", not_json("{\"b\":[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]],\"a\":\"\"}", "sa") == -EBADMSG);
	CHECK("what is in an object within, by its name with a dot in front",
	      json("{\"o\":{\"o\":\"1\",\"p\":{\"q\":\"2\"}},\"x\":\"3\"}", "so.o\nsx\nso.p.q", "1|3|2|") && not_json("{\"o.o\":\"1\",\"o\":1}", "so.p") == -ENOENT);
	CHECK("no names, or a kind that is none", not_json(object, "\n") == -EINVAL && not_json(object, "xa") == -EINVAL);
}

static void lines(void)
{
	static const char passwd[] = "a:x:10:1::/:\nb:10:5:1::/:\n5:x:7:\nlast:x:8";

	CHECK("the first line with that field", answered(ASK(HOST_find_line, text(passwd), number(2), text("5")), "b:10:5:1::/:") &&
	                                                answered(ASK(HOST_find_line, text(passwd), number(0), text("5")), "5:x:7:"));
	CHECK("a field has a colon behind", ASK(HOST_find_line, text(passwd), number(2), text("8")) == -ENOENT);
	CHECK("all of the field", ASK(HOST_find_line, text(passwd), number(0), text("las")) == -ENOENT && ASK(HOST_find_line, text(passwd), number(2), text("1")) == -ENOENT);
	CHECK("no line, no such field", ASK(HOST_find_line, text(""), number(0), text("a")) == -ENOENT && ASK(HOST_find_line, text(passwd), number(9), text("a")) == -ENOENT &&
	                                        ASK(HOST_find_line, text(passwd), number(-1), text("a")) == -EINVAL);
}

static void same_files(void)
{
	CHECK("two ways to one directory", ASK(HOST_same_file, text("."), text("./.")) == 1);
	CHECK("two directories, or none", ASK(HOST_same_file, text("/"), text("/proc")) == 0 && ASK(HOST_same_file, text("/"), text("/nowhere")) == 0);
}

static bool member(const char *object, const char *name, const char *expected)
{
	return answered(ASK(HOST_member, text(object), text(name)), expected);
}

static void single_members(void)
{
	static const char object[] = "{\"/usr\":\"d\",\"/usr/b\":\"l\\u00ff\\n\",\"a,\\\"/no\":\"x\",\"/n\":1,\"/\\u00e9\\\"\\t\":\"odd\"}";

	CHECK("a member that is alone asked for", member(object, "/usr", "d") && member(object, "/usr/b", "l\xff\n"));
	CHECK("its name is escaped as it was when it was written", member(object, "/\xe9\"\t", "odd") && member(object, "a,\"/no", "x"));
	CHECK("what looks like a name in a name is none", ASK(HOST_member, text(object), text("/no")) == -ENOENT);
	CHECK("what is no text, or not there, is none", ASK(HOST_member, text(object), text("/n")) == -ENOENT && ASK(HOST_member, text(object), text("/us")) == -ENOENT &&
	                                                    ASK(HOST_member, text(""), text("/us")) == -ENOENT);
	CHECK("of several at once each is what it is alone; 0 stands for one that is not there",
	      listed(ASK(HOST_members, text(object), text("/n\n/usr/b\n/us\na,\"/no")), "0|l\xff\n|0|x|") &&
	      listed(ASK(HOST_members, text(object), text("")), "0|"));
	CHECK("one that has no end spoils the answer", ASK(HOST_members, text("{\"a\":\"x\",\"b\":\"y"), text("a\nb")) == -EBADMSG);
	CHECK("a text without its end is none", ASK(HOST_member, text("{\"a\":\"b"), text("a")) == -EBADMSG && ASK(HOST_member, text("{\"a\":\"\\"), text("a")) == -EBADMSG &&
	                                            ASK(HOST_member, text("{\"a\":\"\\u00"), text("a")) == -EBADMSG);
}

static void the_rest(void)
{
	CHECK("getent finds root", ASK(HOST_getent, text("passwd"), text("root")) == 0 && strncmp(reply.data, "root:", 5) == 0);
	CHECK("getent by number", ASK(HOST_getent, text("passwd"), text("0")) == 0 && strncmp(reply.data, "root:", 5) == 0);
	CHECK("getent without entry is -ENOENT", ASK(HOST_getent, text("passwd"), text("no-such-user-here")) == -ENOENT);
	CHECK("a key cannot become an option", ASK(HOST_getent, text("passwd"), text("--help")) == -ENOENT);
	CHECK("no other databases", ASK(HOST_getent, text("shadow"), text("root")) == -EINVAL);
	CHECK("random has two digits for a byte", ASK(HOST_random, number(16)) == 0 && reply.len == 32 && strspn(reply.data, "0123456789abcdef") == 32);
	CHECK("never the same again", ASK(HOST_random, number(64)) == 0 && memcmp(reply.data, reply.data + 64, 64) != 0);
	CHECK("at most 64", ASK(HOST_random, number(65)) == -EINVAL);

	CHECK("an unknown call is -ENOSYS", ask_plain(33) == -ENOSYS && ask_plain(1000000) == -ENOSYS);
}

/* What a log line looks like on stderr. */
static void log_lines(void)
{
	char line[64] = "";
	int ends[2], saved = dup(STDERR_FILENO);

	if (pipe2(ends, O_CLOEXEC) != 0)
		exit(1);
	dup2(ends[1], STDERR_FILENO);
	ASK(HOST_log, text("a\x1b[31mb\nc\tå"));
	dup2(saved, STDERR_FILENO);
	CHECK("a log line holds no terminal controls", read(ends[0], line, sizeof line - 1) > 0 && strcmp(line, "a?[31mb?c\tå\n") == 0);
	close(saved);
	close(ends[0]);
	close(ends[1]);
}

int main(void)
{
	char command[128];

	if (mkdtemp(directory) == NULL)
		return 1;
	what_the_process_was_given();
	accounts();
	a_deleted_directory();
	files();
	a_shells_pipe();
	directories();
	kept_files();
	members();
	single_members();
	lines();
	same_files();
	the_rest();
	log_lines();
	snprintf(command, sizeof command, "rm -r %s", directory);
	if (system(command) != 0)
		return 1;
	host_release(&host);
	host_reply_free(&reply);
	return check_end();
}
