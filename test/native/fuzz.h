/* What a fuzz target defines. `data` holds exactly `size` bytes; the target returns 0 and leaves nothing behind. */
#ifndef TSRUN_TEST_FUZZ_H
#define TSRUN_TEST_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
