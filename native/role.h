/* What the program does besides starting runs: internal roles, whose names begin with "@". */
#ifndef TSRUN_ROLE_H
#define TSRUN_ROLE_H

/* argv[0] is the role's name. Its exit status, or -1 when there is no such role. */
int role_main(int argc, char **argv);

#endif
