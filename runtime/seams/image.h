/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bytes of one ELF file and what its tables say: segments, exported functions, function bounds,
 * relocations. Knows ELF, not QEMU. The file may be corrupt: every access is checked against the
 * file's size, and what does not fit is simply not there.
 */
#ifndef SEAMS_IMAGE_H
#define SEAMS_IMAGE_H

#include "runtime/seams/seams.h"

#define IMAGE_SEGMENTS 16
#define IMAGE_RELAS    8

struct image_segment {
	uint64_t vaddr;
	uint64_t offset;
	uint64_t file_bytes;
	uint64_t memory_bytes;
	bool exec;
	bool write;
};

struct image_slice {
	const uint8_t *bytes;
	size_t size;
};

struct image_symbol {
	const char *name;
	uint64_t vaddr;
	uint64_t size;
};

struct image_range {
	uint64_t start;
	uint64_t end;
};

/* What all images of one file have in common. */
struct image_file;

struct image {
	struct image_file *file;
	const uint8_t *bytes; /* the whole file, mapped read-only */
	size_t size;
	struct image_segment segments[IMAGE_SEGMENTS];
	unsigned int n_segments;
	struct image_slice dynsym;
	struct image_slice dynstr;
	struct image_slice rela[IMAGE_RELAS];
	unsigned int n_rela;
	const struct image_symbol *exports; /* defined functions of .dynsym, sorted by vaddr */
	size_t n_exports;
	uint64_t unwind;		 /* vaddr of .eh_frame_hdr */
	struct image_slice unwind_table; /* its sorted (function, FDE) pairs */
	char build_id[65];
};

/* Map and index. On failure the image needs no closing. */
int image_open(const char *path, struct image *image, struct seam_error *err);
/* The bytes have been searched: give back the memory that they take here until they are read again.
 */
void image_rest(const struct image *image);
void image_close(struct image *image);

/* The file's bytes from `vaddr` to the end of its segment's file part; .bytes NULL: none. */
struct image_slice image_at(const struct image *image, uint64_t vaddr);
const struct image_segment *image_segment(const struct image *image, uint64_t vaddr);
uint64_t image_offset(const struct image *image, uint64_t vaddr);
bool image_executable(const struct image *image, uint64_t vaddr);
/* Memory that the program can write: variables, .bss included. */
bool image_writable(const struct image *image, uint64_t vaddr);
/* A NUL-terminated string in read-only memory, or NULL. */
const char *image_string(const struct image *image, uint64_t vaddr);

const struct image_symbol *image_export(const struct image *image, const char *name);
const struct image_symbol *image_export_at(const struct image *image, uint64_t vaddr);

/* An exported variable's vaddr, or 0. */
uint64_t image_variable(const struct image *image, const char *name);

/* The unwind table's range that holds `vaddr`: the truth about where a function's bytes end. */
bool image_function(const struct image *image, uint64_t vaddr, struct image_range *range);

/* What the loader puts into the pointer at `vaddr`: an address in this file, or 0. */
uint64_t image_pointer(const struct image *image, uint64_t vaddr);
/* The imported symbol whose address the loader puts into the GOT slot at `vaddr`, or NULL. */
const char *image_import(const struct image *image, uint64_t vaddr);

/* Sets the sentence and returns `code`, so that failing is one statement. */
int seam_fail(struct seam_error *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
