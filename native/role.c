#include "role.h"

#include <string.h>

#include "codec.h"
#include "image.h"
#include "layer.h"
#include "server.h"
#include "tree_role.h"

int role_main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*main)(int argc, char **argv);
	} roles[] = {
		{"@codec", codec_main},   {"@image", image_main}, {"@layer", layer_main},
		{"@server", server_main}, {"@server-statistics", server_statistics_main},
		{"@tree", tree_role_main},   {"@unpack", image_unpacking_main},
	};

	for (size_t i = 0; i < ARRAY_LEN(roles); i++) {
		if (strcmp(argv[0], roles[i].name) == 0)
			return roles[i].main(argc, argv);
	}
	return -1;
}
