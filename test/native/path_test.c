/* Walking paths in an image that may be hostile: two directories stand for skeleton and image. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "../../native/path.h"
#include "check.h"

static struct tree tree;
static struct spot spot;
static struct err err;

static void put(const char *path, const char *content)
{
	int fd = openat(tree.image, path, O_WRONLY | O_CREAT, 0644);

	if (fd < 0 || write_full(fd, content, strlen(content)) < 0)
		abort();
	close(fd);
}

static void make_image(void)
{
	static const char *const links[][2] = {
		{"../../../../../../etc", "up"}, {"/etc", "absolute"}, {"loop", "loop"}, {"ping", "pong"}, {"pong", "ping"}, {"/nowhere/at/all", "dangling"},
		{"usr/lib", "lib"}, {"/proc/self/root", "magic"}, {"../run/resolv", "etc/resolv.conf"}, {"../..", "usr/out"}, {"file", "to-file"},
		{"./././usr//lib/.", "dots"},
	};

	mkdirat(tree.image, "etc", 0751);
	mkdirat(tree.image, "usr", 0755);
	mkdirat(tree.image, "usr/lib", 0711);
	mkdirat(tree.image, "sticky", 01777);
	fchmodat(tree.image, "sticky", 01777, 0);
	put("etc/passwd", "image");
	put("file", "image");
	for (size_t i = 0; i < ARRAY_LEN(links); i++) {
		if (symlinkat(links[i][0], tree.image, links[i][1]) < 0)
			abort();
	}
}

static bool leads_to(const char *path, const char *to)
{
	if (tree_walk(&tree, path, 0, &spot, &err) < 0) {
		fprintf(stderr, "%s: %s\n", path, err.detail);
		return false;
	}
	if (spot.mode == 0 || strcmp(spot.path, to) != 0)
		fprintf(stderr, "%s leads to %s (%o)\n", path, spot.path, spot.mode);
	return spot.mode != 0 && strcmp(spot.path, to) == 0;
}

static mode_t mode_in(int directory, const char *path)
{
	struct stat st;

	return fstatat(directory, path, &st, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : st.st_mode;
}

static void follows_links_inside(void)
{
	CHECK("the root is the root", leads_to("/", ""));
	CHECK("a plain path is itself", leads_to("/etc/passwd", "/etc/passwd"));
	CHECK("a relative link", leads_to("/lib", "/usr/lib"));
	CHECK("dots and slashes in a link", leads_to("/dots", "/usr/lib"));
	CHECK("a link that climbs out stays at the root", leads_to("/up/passwd", "/etc/passwd"));
	CHECK("an absolute link begins at the image's root", leads_to("/absolute", "/etc"));
	CHECK("a directory link that climbs out", leads_to("/usr/out/usr/out/etc/passwd", "/etc/passwd"));
	CHECK("a link loop ends", tree_walk(&tree, "/loop/x", 0, &spot, &err) == -ELOOP);
	CHECK("a loop of two ends", tree_walk(&tree, "/ping", 0, &spot, &err) == -ELOOP);
	CHECK("a file is no directory", tree_walk(&tree, "/file/x", 0, &spot, &err) == -ENOTDIR);
	CHECK("a link to a file is no directory", tree_walk(&tree, "/to-file/x", 0, &spot, &err) == -ENOTDIR);
	CHECK("what is missing is no error", tree_walk(&tree, "/none/x", 0, &spot, &err) == 0 && spot.mode == 0);
	CHECK("/proc/self/root of the image is a path like others", tree_walk(&tree, "/magic/etc", 0, &spot, &err) == 0 && spot.mode == 0);
	CHECK("nothing was made by looking", mode_in(tree.skeleton, "etc") == 0 && mode_in(tree.skeleton, "none") == 0);
}

static void makes_what_is_missing(void)
{
	CHECK("missing directories", tree_walk(&tree, "/gpfs/u/me", S_IFDIR | 0755, &spot, &err) == 0 && S_ISDIR(mode_in(tree.skeleton, "gpfs/u/me")));
	CHECK("a missing file", tree_walk(&tree, "/data/x.txt", S_IFREG | 0644, &spot, &err) == 0 && S_ISREG(mode_in(tree.skeleton, "data/x.txt")));
	CHECK("below an existing directory, whose permissions are copied", tree_walk(&tree, "/etc/new/x", S_IFDIR | 0755, &spot, &err) == 0 &&
	                                                                      mode_in(tree.skeleton, "etc") == (S_IFDIR | 0751));
	CHECK("sticky bits too", tree_walk(&tree, "/sticky/x", S_IFDIR | 0755, &spot, &err) == 0 && mode_in(tree.skeleton, "sticky") == (S_IFDIR | 01777));
	CHECK("below a link", tree_walk(&tree, "/lib/x.so", S_IFREG | 0644, &spot, &err) == 0 && strcmp(spot.path, "/usr/lib/x.so") == 0 &&
	                          S_ISREG(mode_in(tree.skeleton, "usr/lib/x.so")) && mode_in(tree.skeleton, "usr/lib") == (S_IFDIR | 0711));
	CHECK("what a dangling link points to", tree_walk(&tree, "/etc/resolv.conf", S_IFREG | 0644, &spot, &err) == 0 &&
	                                            strcmp(spot.path, "/run/resolv") == 0 && S_ISREG(mode_in(tree.skeleton, "run/resolv")) &&
	                                            mode_in(tree.skeleton, "etc/resolv.conf") == 0);
	CHECK("what a dangling absolute link points to, inside", tree_walk(&tree, "/dangling", S_IFDIR | 0755, &spot, &err) == 0 &&
	                                                             S_ISDIR(mode_in(tree.skeleton, "nowhere/at/all")) && access("/nowhere", F_OK) < 0);
	CHECK("below a climbing link, inside", tree_walk(&tree, "/up/made-by-test", S_IFDIR | 0755, &spot, &err) == 0 &&
	                                           strcmp(spot.path, "/etc/made-by-test") == 0 && access("/etc/made-by-test", F_OK) < 0);
	CHECK("what is there is left alone", tree_walk(&tree, "/etc/passwd", S_IFREG | 0644, &spot, &err) == 0 && S_ISREG(spot.mode) &&
	                                         mode_in(tree.skeleton, "etc/passwd") == 0);
	CHECK("the image is not written", mode_in(tree.image, "gpfs") == 0 && mode_in(tree.image, "run") == 0);
	CHECK("not below a file", tree_walk(&tree, "/file/x", S_IFDIR | 0755, &spot, &err) == -ENOTDIR);
}

static void writes_content(void)
{
	char text[16] = "";
	int fd;

	CHECK("a file hides the image's", tree_file(&tree, "/etc/passwd", 0640, "skeleton", &err) == 0 && leads_to("/etc/passwd", "/etc/passwd") &&
	                                      mode_in(tree.skeleton, "etc/passwd") == (S_IFREG | 0640));
	fd = openat(tree.skeleton, "etc/passwd", O_RDONLY);
	CHECK("with its content", read(fd, text, sizeof text) == 8 && memcmp(text, "skeleton", 8) == 0);
	close(fd);
	CHECK("a second one replaces it", tree_file(&tree, "/etc/passwd", 0600, "", &err) == 0 && mode_in(tree.skeleton, "etc/passwd") == (S_IFREG | 0600));
	CHECK("a file hides a link instead of following it", tree_file(&tree, "/loop", 0644, "x", &err) == 0 && leads_to("/loop", "/loop"));
	CHECK("a file in a linked directory", tree_file(&tree, "/lib/conf", 0644, "x", &err) == 0 && S_ISREG(mode_in(tree.skeleton, "usr/lib/conf")));
	CHECK("a file cannot hide a directory", tree_file(&tree, "/usr", 0644, "x", &err) == -EISDIR);
	CHECK("a link hides a file", tree_symlink(&tree, "/file", "/etc", &err) == 0 && leads_to("/file", "/etc"));
	CHECK("a link cannot hide a directory", tree_symlink(&tree, "/etc", "/x", &err) == -EISDIR);
	CHECK("a directory that is there stays as it is", tree_directory(&tree, "/sticky", 0700, &err) == 0 && leads_to("/sticky", "/sticky") &&
	                                                      (spot.mode & 07777) == 01777);
	CHECK("a link to a directory counts as one", tree_directory(&tree, "/lib", 0700, &err) == 0);
	CHECK("a new one has its mode", tree_directory(&tree, "/a/b", 01750, &err) == 0 && mode_in(tree.skeleton, "a/b") == (S_IFDIR | 01750) &&
	                                    mode_in(tree.skeleton, "a") == (S_IFDIR | 0755));
	CHECK("a directory cannot replace a file", tree_directory(&tree, "/etc/passwd", 0700, &err) == -ENOTDIR);
}

static void stops_at_mounts(void)
{
	static char data[] = "/data", lib[] = "/usr/lib";
	static const struct mounted_path mounts[] = {{.length = 5, .path = data}, {.length = 8, .path = lib}};

	tree.mounted = mounts;
	tree.mounted_count = 2;
	CHECK("below a mount nothing is made", tree_walk(&tree, "/data/deep/x", S_IFDIR | 0755, &spot, &err) == 0 && spot.below_mount &&
	                                           mode_in(tree.skeleton, "data/deep") == 0);
	CHECK("also when a link leads there", tree_walk(&tree, "/lib/sub", S_IFDIR | 0755, &spot, &err) == 0 && spot.below_mount);
	CHECK("the mount point itself is there", tree_walk(&tree, "/data", S_IFDIR | 0755, &spot, &err) == 0 && !spot.below_mount && S_ISDIR(spot.mode));
	CHECK("a name that begins alike is another", tree_walk(&tree, "/data2/x", S_IFDIR | 0755, &spot, &err) == 0 && !spot.below_mount);
	tree.mounted = NULL;
	tree.mounted_count = 0;
}

/* Links made of many "..": each starts the walk anew, and 40 of them would take minutes. */
static void bounds_its_work(void)
{
	char climb[3900] = "";
	char name[16];

	for (size_t i = 0; i + 8 < sizeof climb; i += 7)
		memcpy(climb + i, "usr/../", 8);
	for (int i = 0; i < 39; i++) {
		char link[4000];

		snprintf(name, sizeof name, "c%d", i);
		snprintf(link, sizeof link, "%sc%d", climb, i + 1);
		if (symlinkat(link, tree.image, name) < 0)
			abort();
	}
	CHECK("a maze of links ends with an error", tree_walk(&tree, "/c0", 0, &spot, &err) == -ELOOP);
}

static void opens_inside_the_root(void)
{
	struct stat st;
	int root = open("/", O_PATH | O_DIRECTORY), fd = path_open(root, "/proc/self/root/etc");

	CHECK("magic links are refused", fd == -ELOOP);
	fd = path_open(tree.image, "/up/passwd");
	CHECK("links are followed inside", fd >= 0 && fstat(fd, &st) == 0 && st.st_size == 5);
	close(fd);
	CHECK("what is missing is -ENOENT", path_open(tree.image, "/dangling") == -ENOENT);
	close(root);
}

int main(void)
{
	char skeleton[] = "/tmp/tsrun-path-XXXXXX", image[] = "/tmp/tsrun-path-XXXXXX", command[128];

	if (mkdtemp(skeleton) == NULL || mkdtemp(image) == NULL)
		abort();
	umask(0);
	tree = (struct tree){.skeleton = open(skeleton, O_PATH | O_DIRECTORY), .image = open(image, O_PATH | O_DIRECTORY)};
	make_image();
	follows_links_inside();
	makes_what_is_missing();
	opens_inside_the_root();
	writes_content();
	stops_at_mounts();
	bounds_its_work();
	snprintf(command, sizeof command, "rm -rf %s %s", skeleton, image);
	CHECK("the test cleans up", system(command) == 0);
	return check_end();
}
