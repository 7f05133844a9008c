/* Between the files of this folder. */
#ifndef TSRUN_START_H
#define TSRUN_START_H

#include "../util.h"

NORETURN void start_end(int status);

#endif
