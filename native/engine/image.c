/* The image that mksnapshot made, in a writable section of its own: the kernel maps it privately with the program, and a page is copied when it is
 * written to. IMAGE_BIN and image.h come from the build. */
#include "internal.h"

#include "image.h"

#ifdef __x86_64__
#define IMAGE_ALIGN "4096"
#else
#define IMAGE_ALIGN "65536"
#endif

__asm__(".pushsection .data.engine_image, \"aw\", %progbits\n"
	".balign " IMAGE_ALIGN "\n"
	".globl engine_image_bytes\n"
	"engine_image_bytes:\n"
	".incbin \"" IMAGE_BIN "\"\n"
	".balign " IMAGE_ALIGN "\n"
	".popsection\n");

extern char engine_image_bytes[];

const struct engine_image *engine_image(void)
{
	static const struct engine_image image = {
		.bytes = engine_image_bytes,
		.from = IMAGE_FROM,
		.len = IMAGE_LEN,
		.pages = IMAGE_PAGES,
		.stack_pointer = IMAGE_STACK_POINTER,
		.runtime = IMAGE_RUNTIME,
		.context = IMAGE_CONTEXT,
		.heap = IMAGE_HEAP,
		.functions = {IMAGE_FUNCTIONS},
	};
	return &image;
}
