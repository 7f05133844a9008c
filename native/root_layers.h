/* An overlay of skeleton, layers and image. Everything in it is named relative to the scratch, so that no path of the host has to be quoted and any number of
 * layers fits the one page that mount(2) takes for options. */
#ifndef TSRUN_ROOT_LAYERS_H
#define TSRUN_ROOT_LAYERS_H

#include "root.h"

/* Gives the layers their names in the scratch and, where there are any, shows them merged with the image as root->tree.image. */
int WARN_UNUSED layers_begin(struct root *root, struct err *err);

/* Mounts the overlay over the scratch. -errno. */
int WARN_UNUSED layers_mount(const struct root *root, const struct root_options *options);

/* An overlay of skeleton and image in which names can be made. Mounts it over the scratch, or returns it, attached nowhere. -errno. */
int WARN_UNUSED layers_grow(const struct root *root, unsigned number, bool attached);

#endif
