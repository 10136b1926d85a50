// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * `tcpline DEVICE PORT` carries TCP connections to PORT of this machine's loopback over a serial line, for a host
 * without a network card. It returns when the line is ready, and goes on in the background. The other end of the line is
 * tooling/cpuidlab/rig/tcp_line.py, which opens the connections.
 *
 * Everything on the line is a frame: MAGIC, number of the connection, kind, length (16 bits, low byte first), and after
 * DATA as many bytes. At most WINDOW bytes of one connection are on their way in one direction: the receiver says with
 * TAKEN how many it has passed on. So neither side fills the other's buffers, and no connection blocks another one. Each
 * side sends CLOSE once, as its last frame; with both the number is free again.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

enum { MAGIC = 0xa5, OPEN = 'O', DATA = 'D', CLOSE = 'C', TAKEN = 'T' };
enum { HEAD = 5, CONNECTIONS = 256, WINDOW = 8192, PIECE = 1024 };

static struct connection {
	int fd; /* -1 where there is none, or no longer */
	bool open, closed_here, closed_there;
	int credit; /* how many bytes more may be sent over the line */
	int waiting; /* how many bytes of `data` the socket has not taken yet */
	unsigned char data[WINDOW];
} connections[CONNECTIONS];

static int line;
static int port;

static void line_write(const unsigned char *bytes, size_t size)
{
	while (size) {
		ssize_t written = write(line, bytes, size);

		if (written < 0 && errno != EINTR)
			err(1, "the serial line");
		if (written > 0)
			bytes += written, size -= written;
	}
}

static void line_read(unsigned char *bytes, size_t size)
{
	while (size) {
		ssize_t length = read(line, bytes, size);

		if (length == 0 || (length < 0 && errno != EINTR))
			err(1, "the serial line");
		if (length > 0)
			bytes += length, size -= length;
	}
}

static void send_frame(int number, int kind, int length, const unsigned char *data)
{
	unsigned char frame[HEAD + PIECE] = { MAGIC, number, kind, length & 0xff, length >> 8 };

	if (data)
		memcpy(frame + HEAD, data, length);
	line_write(frame, HEAD + (data ? length : 0));
}

/* Close this side. The number is free when the other side has closed too. */
static void end(int number)
{
	struct connection *one = &connections[number];

	if (!one->closed_here) {
		if (one->fd >= 0)
			close(one->fd);
		one->fd = -1;
		one->waiting = 0;
		one->closed_here = true;
		send_frame(number, CLOSE, 0, NULL);
	}
	if (one->closed_there)
		one->open = false;
}

static void begin(int number)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct connection *one = &connections[number];

	*one = (struct connection){ .fd = socket(AF_INET, SOCK_STREAM, 0), .open = true, .credit = WINDOW };
	if (one->fd < 0 || connect(one->fd, (struct sockaddr *)&address, sizeof(address))) {
		end(number);
		return;
	}
	fcntl(one->fd, F_SETFL, O_NONBLOCK);
}

/* Pass on what waits for the socket, and tell the other side how much that was. */
static void flush(int number)
{
	struct connection *one = &connections[number];
	ssize_t sent = send(one->fd, one->data, one->waiting, MSG_NOSIGNAL);

	if (sent > 0) {
		one->waiting -= sent;
		memmove(one->data, one->data + sent, one->waiting);
		send_frame(number, TAKEN, sent, NULL);
	}
	if ((sent < 0 && errno != EAGAIN) || (one->closed_there && !one->waiting))
		end(number);
}

static void from_socket(int number)
{
	struct connection *one = &connections[number];
	unsigned char piece[PIECE];
	ssize_t length = recv(one->fd, piece, one->credit < PIECE ? one->credit : PIECE, 0);

	if (length > 0) {
		one->credit -= length;
		send_frame(number, DATA, length, piece);
	} else if (length == 0 || errno != EAGAIN) {
		end(number);
	}
}

static void from_line(void)
{
	unsigned char head[HEAD], lost[WINDOW];

	line_read(head, HEAD);
	int number = head[1], kind = head[2], length = head[3] | head[4] << 8;
	struct connection *one = &connections[number];

	if (head[0] != MAGIC)
		errx(1, "the serial line has lost bytes");
	if (kind == DATA) {
		/* `lost` takes what was sent before the other side knew that the connection has ended here */
		unsigned char *into = one->closed_here ? lost : one->data + one->waiting;

		if (length > WINDOW - one->waiting)
			errx(1, "more bytes than the window has");
		line_read(into, length);
		if (!one->closed_here) {
			one->waiting += length;
			flush(number);
		}
	} else if (kind == OPEN) {
		begin(number);
	} else if (kind == TAKEN) {
		one->credit += length;
	} else if (kind == CLOSE) {
		one->closed_there = true;
		if (one->closed_here || !one->waiting)
			end(number);
	}
}

static void carry(void)
{
	struct pollfd polled[1 + CONNECTIONS];
	int numbers[1 + CONNECTIONS], count;

	for (;;) {
		polled[0] = (struct pollfd){ .fd = line, .events = POLLIN };
		count = 1;
		for (int number = 0; number < CONNECTIONS; number++) {
			struct connection *one = &connections[number];

			short events = (one->waiting ? POLLOUT : 0) | (one->credit ? POLLIN : 0);

			if (!one->open || one->fd < 0 || !events)
				continue;
			polled[count] = (struct pollfd){ .fd = one->fd, .events = events };
			numbers[count++] = number;
		}
		if (poll(polled, count, -1) < 0)
			continue;
		if (polled[0].revents)
			from_line();
		for (int each = 1; each < count; each++) {
			struct connection *one = &connections[numbers[each]];

			if (one->fd == polled[each].fd && one->waiting && polled[each].revents & POLLOUT)
				flush(numbers[each]);
			if (one->fd == polled[each].fd && one->credit && polled[each].revents & (POLLIN | POLLHUP | POLLERR))
				from_socket(numbers[each]);
		}
	}
}

int main(int count, char **words)
{
	struct termios settings;

	if (count != 3)
		errx(2, "usage: tcpline DEVICE PORT");
	port = atoi(words[2]);
	line = open(words[1], O_RDWR | O_NOCTTY);
	if (line < 0 || tcgetattr(line, &settings))
		err(1, "%s", words[1]);
	cfmakeraw(&settings);
	cfsetspeed(&settings, B115200);
	settings.c_cflag |= CLOCAL | CREAD;
	settings.c_cflag &= ~CRTSCTS;
	if (tcsetattr(line, TCSAFLUSH, &settings))
		err(1, "%s", words[1]);
	signal(SIGPIPE, SIG_IGN);
	if (daemon(0, 0))
		err(1, "daemon");
	carry();
}
