/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside the image: what its files share. Not for users of image.h.
 */
#ifndef SEAMS_IMAGE_PRIVATE_H
#define SEAMS_IMAGE_PRIVATE_H

#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/seams/image.h"

/* --- image-file.c: what all images of one file have in common ---
 *
 * One mapping of a file that many QEMUs run, and one index of its symbols: a host has fifty QEMUs
 * of one binary.
 */

/* Of .dynsym alone, or of .symtab as well. */
enum image_index { INDEX_DYNAMIC, INDEX_FULL, INDEXES };

struct image_file {
	dev_t device;
	ino_t inode;
	struct timespec changed;
	const uint8_t *bytes;
	size_t size;
	struct image_symbol *functions[INDEXES];
	size_t n_functions[INDEXES];
	struct image_file *debug; /* its debug file, once found */
	struct image_table debug_symtab;
	unsigned int users;
	struct image_file *next;
};

/* Over all that images share, but for bytes and size. */
extern pthread_mutex_t image_files_lock;

/* To be put once for each get. NULL with errno set. */
struct image_file *image_file_get(int fd, const struct stat *st);
void image_file_put(struct image_file *file);

/* --- image-bounds.c --- */

/* Find the table behind .eh_frame_hdr, at `vaddr`. */
void image_find_unwind_table(struct image *image, uint64_t vaddr);

/* --- image-names.c --- */

/* Once for all images of the file: QEMU has ten thousand. -ENOMEM */
int image_index_functions(struct image *image, enum image_index which);

/* --- image.c --- */

/* Map an x86-64 program, or the debug file of one, and find its tables. */
int image_read(const char *path, struct image *image, struct seam_error *err);

/* --- tables, whose own sizes are not to be believed --- */

static inline bool slice_read(struct image_slice slice, uint64_t at, void *to, size_t size)
{
	if (!slice.bytes || at > slice.size || size > slice.size - at)
		return false;
	memcpy(to, slice.bytes + at, size);
	return true;
}

/* A string of a string table, or NULL when it has no end inside it. */
static inline const char *slice_string(struct image_slice slice, uint64_t at)
{
	if (!slice.bytes || at >= slice.size || !memchr(slice.bytes + at, 0, slice.size - at))
		return NULL;
	return (const char *)slice.bytes + at;
}

#endif
