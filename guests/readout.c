// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * `readout NAME=PATH ...` prints each file behind the line "\036NAME". A file that is not there is empty. /dev/kmsg is
 * read to its last record. This is one static program for the same reason as guests/guest/health.c.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void print_file(const char *path)
{
	char part[8192]; /* what the longest record of /dev/kmsg takes */
	int file = open(path, O_RDONLY | O_NONBLOCK);
	ssize_t length;

	/* EPIPE: records were overwritten. The sequence number of the next record shows that they are missing. */
	while ((length = read(file, part, sizeof(part))) > 0 || (length < 0 && errno == EPIPE))
		if (length > 0)
			fwrite(part, length, 1, stdout);
	close(file);
}

int main(int count, char **words)
{
	for (int word = 1; word < count; word++) {
		char *path = strchr(words[word], '=');

		if (!path)
			errx(2, "usage: readout NAME=PATH ...");
		printf("\036%.*s\n", (int)(path - words[word]), words[word]);
		print_file(path + 1);
	}
	if (fflush(stdout))
		err(1, "standard output");
	return 0;
}
