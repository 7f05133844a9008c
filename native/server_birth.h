#ifndef TSRUN_SERVER_BIRTH_H
#define TSRUN_SERVER_BIRTH_H

#include <sys/types.h>

/* Starts `/proc/self/exe` with those arguments, as a server: `starter` (a socket with its first question), the runtime directory and the scope's lock become its
 * WIRE_…_FD. Returns the server's process group, or -errno; what fails later it says through `starter`. */
pid_t server_spawn(char *const argv[], int starter, int dir, int lock);

#endif
