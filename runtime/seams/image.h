/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bytes of one ELF file and what its tables say: segments, named functions, function bounds,
 * relocations, USDT probes. Knows ELF, not QEMU. The file may be corrupt: every access is checked
 * against the file's size, and what does not fit is simply not there.
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
	bool exported; /* in .dynsym; else in .symtab */
};

/* .dynsym or .symtab, with its strings. */
struct image_table {
	struct image_slice symbols;
	struct image_slice strings;
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
	struct image_table dynamic;
	struct image_table full; /* this file's, else the debug file's, once asked for */
	struct image_slice debug_link;
	struct image_slice rela[IMAGE_RELAS];
	unsigned int n_rela;
	const struct image_symbol *functions; /* defined and global, sorted by vaddr */
	size_t n_functions;
	uint64_t *usdt; /* where USDT probes stand, sorted */
	size_t n_usdt;
	uint64_t unwind;		 /* vaddr of .eh_frame_hdr */
	struct image_slice unwind_table; /* its sorted (function, FDE) pairs */
	char build_id[65];
};

/* Map and index .dynsym. On failure the image needs no closing. */
int image_open(const char *path, struct image *image, struct seam_error *err);
/* The bytes have been searched: give back the memory that they take here until they are read again.
 */
void image_rest(const struct image *image);
void image_close(struct image *image);

/*
 * Index .symtab as well: the file's own, or of a stripped file that of its debug file, which must
 * bear the same build id. `path` is what image_open() was given. -ENOENT: there is none.
 */
int image_read_symtab(struct image *image, const char *path);

/* The file's bytes from `vaddr` to the end of its segment's file part; .bytes NULL: none. */
struct image_slice image_at(const struct image *image, uint64_t vaddr);
const struct image_segment *image_segment(const struct image *image, uint64_t vaddr);
uint64_t image_offset(const struct image *image, uint64_t vaddr);
bool image_executable(const struct image *image, uint64_t vaddr);
/* Memory that the program can write: variables, .bss included. */
bool image_writable(const struct image *image, uint64_t vaddr);
/* A NUL-terminated string in read-only memory, or NULL. */
const char *image_string(const struct image *image, uint64_t vaddr);

/* A global function; static ones have no name here. */
const struct image_symbol *image_symbol(const struct image *image, const char *name);
const struct image_symbol *image_symbol_at(const struct image *image, uint64_t vaddr);

/* Does the symbol table, once read, have a static function by that name? */
bool image_has_static(const struct image *image, const char *name);

/* A global variable's vaddr, or 0. */
uint64_t image_variable(const struct image *image, const char *name);

/* Does a USDT probe stand in these bytes? */
bool image_has_usdt(const struct image *image, uint64_t vaddr, uint64_t size);

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
