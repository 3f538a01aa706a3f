/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * io/channel.c, migration/qemu-file.c and the waits in them.
 */
#include "tests/host/host.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#define IO_BUF_SIZE 32768

size_t host_read_bytes = 16;

struct QEMUFile {
	QIOChannel *ioc;
	uint8_t buf[IO_BUF_SIZE];
	int index, size;
	int last_error;
};

/* ---- channels ---- */

EXPORTED ssize_t qio_channel_readv_full(QIOChannel *ioc, const struct iovec *iov, size_t niov,
					int **fds, size_t *nfds, int flags, const char **errp)
{
	ssize_t n;

	host_reads(HOST_CAME(qio_channel_readv_full));
	/* The last argument is on the stack. */
	g_assert_true(niov == 1 && !fds && !nfds && !flags && errp && !*errp);
	do
		n = readv(ioc->fd, iov, (int)niov);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return n;
	if (errno == EAGAIN)
		return QIO_CHANNEL_ERR_BLOCK;
	*errp = g_strerror(errno);
	return -1;
}

EXPORTED void qio_channel_wait(QIOChannel *ioc, GIOCondition condition)
{
	struct pollfd fd = {.fd = ioc->fd, .events = (short)condition};

	HOST_CAME(qio_channel_wait);
	host_runs_at(host_place, true);
	g_assert_false(qemu_in_coroutine());
	/* Stock does not look for the end of a pipe here, and would spin at it. */
	g_assert_true(condition & G_IO_HUP);
	host_count(IN_WAIT, 1);
	while (poll(&fd, 1, -1) < 0 && errno == EINTR)
		;
	host_count(IN_WAIT, -1);
}

EXPORTED void qio_channel_yield(QIOChannel *ioc, GIOCondition condition)
{
	g_assert_true(condition & G_IO_IN);
	host_yield_on(ioc->fd);
}

EXPORTED void yield_until_fd_readable(int fd)
{
	HOST_CAME(yield_until_fd_readable);
	g_assert_true(qemu_in_coroutine());
	host_yield_on(fd);
}

/* ---- the stream ---- */

QEMUFile *qemu_file_new_input(QIOChannel *ioc)
{
	QEMUFile *f = g_new0(QEMUFile, 1);

	f->ioc = ioc;
	return f;
}

void qemu_fclose(QEMUFile *f)
{
	close(f->ioc->fd);
	g_free(f->ioc);
	g_free(f);
}

EXPORTED int qemu_file_get_error(QEMUFile *f)
{
	return f->last_error;
}

EXPORTED void qemu_file_set_error(QEMUFile *f, int ret)
{
	if (!f->last_error && ret)
		f->last_error = ret;
}

static void qemu_fill_buffer(QEMUFile *f)
{
	struct iovec iov = {.iov_base = f->buf, .iov_len = host_read_bytes};
	const char *err = NULL;
	ssize_t len;

	f->index = f->size = 0;
	if (qemu_file_get_error(f))
		return;
	do {
		len = qio_channel_readv_full(f->ioc, &iov, 1, NULL, NULL, 0, &err);
		if (len == QIO_CHANNEL_ERR_BLOCK) {
			if (qemu_in_coroutine())
				qio_channel_yield(f->ioc, G_IO_IN);
			else
				qio_channel_wait(f->ioc, G_IO_IN);
		}
	} while (len == QIO_CHANNEL_ERR_BLOCK);
	g_assert_true((len == -1) == (err != NULL));
	if (len > 0)
		f->size = (int)len;
	else
		qemu_file_set_error(f, -EIO);
}

EXPORTED int qemu_peek_byte(QEMUFile *f, int offset)
{
	if (f->index + offset >= f->size)
		qemu_fill_buffer(f);
	return f->index + offset < f->size ? f->buf[f->index + offset] : 0;
}

EXPORTED int qemu_get_byte(QEMUFile *f)
{
	int byte = qemu_peek_byte(f, 0);

	host_runs_at(host_place, false);
	if (f->index < f->size)
		f->index++;
	return byte;
}

EXPORTED size_t qemu_get_buffer_at(QEMUFile *f, uint8_t *buf, size_t size, off_t pos)
{
	ssize_t n;

	HOST_CAME(qemu_get_buffer_at);
	host_runs_at(host_place, true);
	g_assert_nonnull(f);
	n = pread(host_mapped_fd, buf, size, pos);
	return n < 0 ? 0 : (size_t)n;
}
