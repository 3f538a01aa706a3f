/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mapped ELF files, each once for all images of it.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "runtime/seams/image-private.h"

pthread_mutex_t image_files_lock = PTHREAD_MUTEX_INITIALIZER;
static struct image_file *files;

static bool same_file(const struct image_file *file, const struct stat *st)
{
	return file->device == st->st_dev && file->inode == st->st_ino &&
	       file->size == (size_t)st->st_size && file->changed.tv_sec == st->st_ctim.tv_sec &&
	       file->changed.tv_nsec == st->st_ctim.tv_nsec;
}

static struct image_file *file_find(const struct stat *st)
{
	struct image_file *file = files;

	while (file && !same_file(file, st))
		file = file->next;
	return file;
}

/* NULL with errno set. */
static struct image_file *file_map(int fd, const struct stat *st)
{
	struct image_file *file = calloc(1, sizeof(*file));
	void *bytes;

	if (!file)
		return NULL;
	/*
	 * Shared: the kernel writes the traps of uprobes on the file into every private mapping
	 * that might become executable, this one included; it leaves shared ones alone. We want the
	 * file.
	 */
	bytes = mmap(NULL, st->st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (bytes == MAP_FAILED) {
		free(file);
		return NULL;
	}
	*file = (struct image_file){.device = st->st_dev,
				    .inode = st->st_ino,
				    .changed = st->st_ctim,
				    .bytes = bytes,
				    .size = st->st_size,
				    .next = files};
	files = file;
	return file;
}

struct image_file *image_file_get(int fd, const struct stat *st)
{
	struct image_file *file;

	pthread_mutex_lock(&image_files_lock);
	file = file_find(st);
	if (!file)
		file = file_map(fd, st);
	if (file)
		file->users++;
	pthread_mutex_unlock(&image_files_lock);
	return file;
}

/* With the lock held. */
static void file_drop(struct image_file *file)
{
	struct image_file **at = &files;

	if (!file || --file->users)
		return;
	while (*at != file)
		at = &(*at)->next;
	*at = file->next;
	file_drop(file->debug);
	munmap((void *)file->bytes, file->size);
	for (int i = 0; i < INDEXES; i++)
		free(file->functions[i]);
	free(file);
}

void image_file_put(struct image_file *file)
{
	pthread_mutex_lock(&image_files_lock);
	file_drop(file);
	pthread_mutex_unlock(&image_files_lock);
}

void image_rest(const struct image *image)
{
	const struct image_file *debug = image->file->debug;

	/* They stay in the page cache. Whether the kernel takes the advice is of no concern. */
	madvise((void *)image->bytes, image->size, MADV_DONTNEED);
	if (debug)
		madvise((void *)debug->bytes, debug->size, MADV_DONTNEED);
}
