/* Where linear memory lies. The generated code knows it too: an access is then one instruction, and one before it that keeps its address inside. */
#ifndef TSRUN_ENGINE_SPACE_H
#define TSRUN_ENGINE_SPACE_H

#include <stdint.h>

#define ENGINE_SPACE (64u << 20)  /* all the memory an engine can ever have; a power of two */
#define ENGINE_BEYOND (2u << 20) /* what the generated code adds to an address, at most: where its own constants lie */

/* Of the one engine that there can be at a time. Zeros cost no memory; runtime.c keeps count of how much the engine has asked for. */
extern uint8_t engine_space[ENGINE_SPACE + ENGINE_BEYOND];

#endif
