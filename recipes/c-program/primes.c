/* primes N: how many primes are below N. */
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	long n = argc > 1 ? strtol(argv[1], NULL, 10) : 0, count = 0;
	char *composite = n > 0 && n <= 1000000000 ? calloc((size_t)n, 1) : NULL;

	if (composite == NULL) {
		fputs("usage: primes N (up to 1000000000)\n", stderr);
		return 2;
	}
	for (long i = 2; i < n; i++) {
		if (composite[i])
			continue;
		count++;
		for (long j = i * i; j < n; j += i)
			composite[j] = 1;
	}
	printf("%ld\n", count);
	free(composite);
	return 0;
}
