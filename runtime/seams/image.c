/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Open an ELF file, index its symbols, and answer questions about addresses.
 *
 * libelf reads the headers; the tables are then read through bounds-checked slices of the mapped
 * file, because a table's own sizes are not to be believed.
 */
#include "runtime/seams/image.h"

#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Pointer encodings of .eh_frame (LSB core specification, "DWARF extensions"). */
#define DW_EH_PE_absptr	  0x00
#define DW_EH_PE_udata2	  0x02
#define DW_EH_PE_udata4	  0x03
#define DW_EH_PE_udata8	  0x04
#define DW_EH_PE_datarel4 0x3b

/*
 * The largest function of the QEMUs looked at is 34 KB. A corrupt table must not make a walk over
 * "one function" take minutes.
 */
#define FUNCTION_MAX (1 << 20)

/* Of a note by the name "stapsdt"; no header has it. */
#define NT_STAPSDT 3

/* What distributions compile into their debuggers. */
#define DEBUG_FOLDER "/usr/lib/debug"

int seam_fail(struct seam_error *err, int code, const char *format, ...)
{
	va_list args;

	if (err) {
		va_start(args, format);
		vsnprintf(err->text, sizeof(err->text), format, args);
		va_end(args);
	}
	return code;
}

/* --- files ---
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

static pthread_mutex_t files_lock = PTHREAD_MUTEX_INITIALIZER;
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

static struct image_file *file_get(int fd, const struct stat *st)
{
	struct image_file *file;

	pthread_mutex_lock(&files_lock);
	file = file_find(st);
	if (!file)
		file = file_map(fd, st);
	if (file)
		file->users++;
	pthread_mutex_unlock(&files_lock);
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

static void file_put(struct image_file *file)
{
	pthread_mutex_lock(&files_lock);
	file_drop(file);
	pthread_mutex_unlock(&files_lock);
}

/* --- slices ------------------------------------------------------------------------------------
 */

static struct image_slice file_slice(const struct image *image, uint64_t offset, uint64_t size)
{
	if (offset > image->size || size > image->size - offset)
		return (struct image_slice){0};
	return (struct image_slice){image->bytes + offset, size};
}

static bool slice_read(struct image_slice slice, uint64_t at, void *to, size_t size)
{
	if (!slice.bytes || at > slice.size || size > slice.size - at)
		return false;
	memcpy(to, slice.bytes + at, size);
	return true;
}

/* A string of a string table, or NULL when it has no end inside it. */
static const char *slice_string(struct image_slice slice, uint64_t at)
{
	if (!slice.bytes || at >= slice.size || !memchr(slice.bytes + at, 0, slice.size - at))
		return NULL;
	return (const char *)slice.bytes + at;
}

/* --- addresses ---------------------------------------------------------------------------------
 */

const struct image_segment *image_segment(const struct image *image, uint64_t vaddr)
{
	for (unsigned int i = 0; i < image->n_segments; i++) {
		const struct image_segment *s = &image->segments[i];

		if (vaddr >= s->vaddr && vaddr - s->vaddr < s->memory_bytes)
			return s;
	}
	return NULL;
}

struct image_slice image_at(const struct image *image, uint64_t vaddr)
{
	const struct image_segment *s = image_segment(image, vaddr);

	if (!s || vaddr - s->vaddr >= s->file_bytes)
		return (struct image_slice){0};
	return file_slice(image, s->offset + (vaddr - s->vaddr),
			  s->file_bytes - (vaddr - s->vaddr));
}

uint64_t image_offset(const struct image *image, uint64_t vaddr)
{
	struct image_slice slice = image_at(image, vaddr);

	return slice.bytes ? (uint64_t)(slice.bytes - image->bytes) : 0;
}

bool image_executable(const struct image *image, uint64_t vaddr)
{
	const struct image_segment *s = image_segment(image, vaddr);

	return s && s->exec && image_at(image, vaddr).bytes;
}

bool image_writable(const struct image *image, uint64_t vaddr)
{
	const struct image_segment *s = image_segment(image, vaddr);

	return s && s->write && !s->exec;
}

const char *image_string(const struct image *image, uint64_t vaddr)
{
	if (image_writable(image, vaddr))
		return NULL;
	return slice_string(image_at(image, vaddr), 0);
}

/* --- symbols -----------------------------------------------------------------------------------
 */

const struct image_symbol *image_symbol(const struct image *image, const char *name)
{
	for (size_t i = 0; i < image->n_functions; i++) {
		if (!strcmp(image->functions[i].name, name))
			return &image->functions[i];
	}
	return NULL;
}

bool image_has_static(const struct image *image, const char *name)
{
	const struct image_table *table = &image->full;
	Elf64_Sym sym;

	for (size_t at = 0; slice_read(table->symbols, at, &sym, sizeof(sym)); at += sizeof(sym)) {
		const char *found = slice_string(table->strings, sym.st_name);

		if (ELF64_ST_TYPE(sym.st_info) == STT_FUNC &&
		    ELF64_ST_BIND(sym.st_info) == STB_LOCAL && found && !strcmp(found, name))
			return true;
	}
	return false;
}

static uint64_t find_variable(const struct image *image, const struct image_table *table,
			      const char *name)
{
	Elf64_Sym sym;

	for (size_t at = 0; slice_read(table->symbols, at, &sym, sizeof(sym)); at += sizeof(sym)) {
		const char *found = slice_string(table->strings, sym.st_name);

		if (ELF64_ST_TYPE(sym.st_info) == STT_OBJECT &&
		    ELF64_ST_BIND(sym.st_info) != STB_LOCAL && sym.st_shndx != SHN_UNDEF &&
		    image_writable(image, sym.st_value) && found && !strcmp(found, name))
			return sym.st_value;
	}
	return 0;
}

uint64_t image_variable(const struct image *image, const char *name)
{
	uint64_t vaddr = find_variable(image, &image->dynamic, name);

	return vaddr ? vaddr : find_variable(image, &image->full, name);
}

static int compare_vaddr(const void *a, const void *b)
{
	const struct image_symbol *x = a, *y = b;

	return (x->vaddr > y->vaddr) - (x->vaddr < y->vaddr);
}

/* Of one address and name, what .dynsym says comes first. */
static int compare_symbol(const void *a, const void *b)
{
	const struct image_symbol *x = a, *y = b;
	int order = compare_vaddr(a, b);

	if (!order)
		order = strcmp(x->name, y->name);
	return order ? order : y->exported - x->exported;
}

const struct image_symbol *image_symbol_at(const struct image *image, uint64_t vaddr)
{
	const struct image_symbol key = {.vaddr = vaddr};

	return bsearch(&key, image->functions, image->n_functions, sizeof(key), compare_vaddr);
}

static size_t take_functions(const struct image *image, const struct image_table *table,
			     bool exported, struct image_symbol *to)
{
	Elf64_Sym sym;
	size_t n = 0;

	for (size_t at = 0; slice_read(table->symbols, at, &sym, sizeof(sym)); at += sizeof(sym)) {
		const char *name;

		if (ELF64_ST_TYPE(sym.st_info) != STT_FUNC ||
		    ELF64_ST_BIND(sym.st_info) == STB_LOCAL || sym.st_shndx == SHN_UNDEF ||
		    !image_executable(image, sym.st_value))
			continue;
		name = slice_string(table->strings, sym.st_name);
		if (name)
			to[n++] = (struct image_symbol){name, sym.st_value, sym.st_size, exported};
	}
	return n;
}

/* One symbol for each name of an address. */
static size_t sort_functions(struct image_symbol *functions, size_t n)
{
	size_t kept = 0;

	qsort(functions, n, sizeof(*functions), compare_symbol);
	for (size_t i = 0; i < n; i++) {
		if (!kept || functions[i].vaddr != functions[kept - 1].vaddr ||
		    strcmp(functions[i].name, functions[kept - 1].name) != 0)
			functions[kept++] = functions[i];
	}
	return kept;
}

/* Once for all images of the file: QEMU has ten thousand. */
static int index_functions(struct image *image, enum image_index which)
{
	size_t most = image->dynamic.symbols.size / sizeof(Elf64_Sym) + 1, n;
	struct image_file *file = image->file;
	struct image_symbol *functions;

	if (which == INDEX_FULL)
		most += image->full.symbols.size / sizeof(Elf64_Sym);
	pthread_mutex_lock(&files_lock);
	functions = file->functions[which];
	if (!functions && (functions = calloc(most, sizeof(*functions)))) {
		n = take_functions(image, &image->dynamic, true, functions);
		if (which == INDEX_FULL)
			n += take_functions(image, &image->full, false, functions + n);
		file->n_functions[which] = sort_functions(functions, n);
		file->functions[which] = functions;
	}
	pthread_mutex_unlock(&files_lock);
	image->functions = functions;
	image->n_functions = functions ? file->n_functions[which] : 0;
	return functions ? 0 : -ENOMEM;
}

bool image_has_usdt(const struct image *image, uint64_t vaddr, uint64_t size)
{
	size_t low = 0, high = image->n_usdt;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (image->usdt[middle] < vaddr)
			low = middle + 1;
		else
			high = middle;
	}
	return low < image->n_usdt && image->usdt[low] - vaddr < size;
}

/* --- function bounds ---------------------------------------------------------------------------
 */

static bool skip_leb128(struct image_slice slice, uint64_t *at)
{
	uint8_t byte;

	do {
		if (!slice_read(slice, (*at)++, &byte, 1))
			return false;
	} while (byte & 0x80);
	return true;
}

/* The encoding of a FDE's addresses, from its CIE's augmentation string. */
static bool fde_encoding(const struct image *image, uint64_t cie, uint8_t *encoding)
{
	struct image_slice s = image_at(image, cie);
	const char *augmentation = slice_string(s, 9);
	uint8_t version;
	uint64_t at;

	*encoding = DW_EH_PE_absptr;
	if (!augmentation || !slice_read(s, 8, &version, 1))
		return false;
	if (augmentation[0] != 'z')
		return augmentation[0] == '\0';
	at = 9 + strlen(augmentation) + 1;
	/* Code alignment, data alignment, return register (a byte in version 1), length of data. */
	if (!skip_leb128(s, &at) || !skip_leb128(s, &at))
		return false;
	if (version == 1)
		at++;
	else if (!skip_leb128(s, &at))
		return false;
	if (!skip_leb128(s, &at))
		return false;
	for (const char *c = augmentation + 1; *c; c++) {
		uint8_t personality;

		switch (*c) {
		case 'R':
			return slice_read(s, at, encoding, 1);
		case 'L':
			at++;
			break;
		case 'P':
			if (!slice_read(s, at, &personality, 1))
				return false;
			at++;
			if ((personality & 7) == DW_EH_PE_udata4)
				at += 4;
			else if ((personality & 7) == DW_EH_PE_udata2)
				at += 2;
			else
				at += 8;
			break;
		case 'S':
		case 'B':
			break;
		default:
			return false;
		}
	}
	return true;
}

static bool fde_length(const struct image *image, uint64_t fde, uint64_t *bytes)
{
	struct image_slice s = image_at(image, fde);
	uint32_t length, cie_delta, word;
	uint8_t encoding;

	if (!slice_read(s, 0, &length, 4) || !slice_read(s, 4, &cie_delta, 4) ||
	    length == 0xffffffff || !cie_delta ||
	    !fde_encoding(image, fde + 4 - cie_delta, &encoding))
		return false;
	switch (encoding & 7) {
	case DW_EH_PE_udata4:
		if (!slice_read(s, 12, &word, 4))
			return false;
		*bytes = word;
		return true;
	case DW_EH_PE_absptr:
	case DW_EH_PE_udata8:
		return slice_read(s, 16, bytes, 8);
	default:
		return false;
	}
}

static bool unwind_entry(const struct image *image, size_t index, uint64_t *start, uint64_t *fde)
{
	int32_t pair[2];

	if (!slice_read(image->unwind_table, index * sizeof(pair), pair, sizeof(pair)))
		return false;
	*start = image->unwind + (int64_t)pair[0];
	*fde = image->unwind + (int64_t)pair[1];
	return true;
}

bool image_function(const struct image *image, uint64_t vaddr, struct image_range *range)
{
	size_t low = 0, high = image->unwind_table.size / (2 * sizeof(int32_t));
	uint64_t start, fde, bytes;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (!unwind_entry(image, middle, &start, &fde))
			return false;
		if (start <= vaddr)
			low = middle;
		else
			high = middle;
	}
	if (!unwind_entry(image, low, &start, &fde) || vaddr < start ||
	    !fde_length(image, fde, &bytes) || vaddr - start >= bytes || bytes > FUNCTION_MAX ||
	    !image_executable(image, start) || image_at(image, start).size < bytes)
		return false;
	*range = (struct image_range){start, start + bytes};
	return true;
}

/* Only the form every linker writes: a sorted table of signed 32-bit distances from its start. */
static void find_unwind_table(struct image *image, uint64_t vaddr)
{
	struct image_slice s = image_at(image, vaddr);
	uint8_t head[4];
	uint32_t count;

	/* The pointer to .eh_frame is four bytes in every 4-byte encoding; the count follows it. */
	if (!slice_read(s, 0, head, sizeof(head)) || head[0] != 1 ||
	    (head[1] & 7) != DW_EH_PE_udata4 || head[2] != DW_EH_PE_udata4 ||
	    head[3] != DW_EH_PE_datarel4 || !slice_read(s, 8, &count, 4) ||
	    count > (s.size - 12) / 8)
		return;
	image->unwind = vaddr;
	image->unwind_table = (struct image_slice){s.bytes + 12, (size_t)count * 8};
}

/* --- relocations -------------------------------------------------------------------------------
 */

static const Elf64_Rela *find_rela(const struct image *image, uint64_t vaddr, Elf64_Rela *rela)
{
	/* .rela.plt comes last and is short: most questions end there. */
	for (unsigned int t = image->n_rela; t-- > 0;) {
		for (uint64_t at = 0; slice_read(image->rela[t], at, rela, sizeof(*rela));
		     at += sizeof(*rela)) {
			if (rela->r_offset == vaddr)
				return rela;
		}
	}
	return NULL;
}

static bool rela_symbol(const struct image *image, const Elf64_Rela *rela, Elf64_Sym *sym)
{
	return slice_read(image->dynamic.symbols, ELF64_R_SYM(rela->r_info) * sizeof(*sym), sym,
			  sizeof(*sym));
}

uint64_t image_pointer(const struct image *image, uint64_t vaddr)
{
	Elf64_Rela rela;
	Elf64_Sym sym;
	uint64_t value;

	if (!find_rela(image, vaddr, &rela)) {
		/* A fixed-address program, or relative relocations packed as SHT_RELR. */
		return slice_read(image_at(image, vaddr), 0, &value, sizeof(value)) ? value : 0;
	}
	switch (ELF64_R_TYPE(rela.r_info)) {
	case R_X86_64_RELATIVE:
		return rela.r_addend;
	case R_X86_64_64:
		if (rela_symbol(image, &rela, &sym) && sym.st_shndx != SHN_UNDEF)
			return sym.st_value + rela.r_addend;
	}
	return 0;
}

const char *image_import(const struct image *image, uint64_t vaddr)
{
	Elf64_Rela rela;
	Elf64_Sym sym;

	if (!find_rela(image, vaddr, &rela) ||
	    (ELF64_R_TYPE(rela.r_info) != R_X86_64_JUMP_SLOT &&
	     ELF64_R_TYPE(rela.r_info) != R_X86_64_GLOB_DAT) ||
	    !rela_symbol(image, &rela, &sym))
		return NULL;
	return slice_string(image->dynamic.strings, sym.st_name);
}

/* --- opening -----------------------------------------------------------------------------------
 */

struct note {
	uint32_t type;
	struct image_slice name;
	struct image_slice desc;
};

static bool next_note(struct image_slice notes, uint64_t *at, struct note *note)
{
	uint64_t name = *at + sizeof(Elf64_Nhdr), desc;
	Elf64_Nhdr head;

	if (!slice_read(notes, *at, &head, sizeof(head)))
		return false;
	desc = name + (((uint64_t)head.n_namesz + 3) & ~3ull);
	if (desc > notes.size || head.n_descsz > notes.size - desc)
		return false;
	*note = (struct note){
		.type = head.n_type,
		.name = {notes.bytes + name, head.n_namesz},
		.desc = {notes.bytes + desc, head.n_descsz},
	};
	*at = desc + (((uint64_t)head.n_descsz + 3) & ~3ull);
	return true;
}

static bool note_is(const struct note *note, uint32_t type, const char *name)
{
	return note->type == type && note->name.size == strlen(name) + 1 &&
	       !memcmp(note->name.bytes, name, note->name.size);
}

static void read_build_id(struct image *image, struct image_slice notes)
{
	struct note note;

	for (uint64_t at = 0; !image->build_id[0] && next_note(notes, &at, &note);) {
		if (!note_is(&note, NT_GNU_BUILD_ID, "GNU"))
			continue;
		for (size_t i = 0; i < note.desc.size && i < 32; i++)
			snprintf(image->build_id + 2 * i, 3, "%02x", note.desc.bytes[i]);
	}
}

static int compare_address(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/*
 * .note.stapsdt: https://sourceware.org/systemtap/wiki/UserSpaceProbeImplementation
 * Its first word is the probe's address, unless prelink has moved the file, which nobody does to a
 * PIE any more.
 */
static int read_usdt(struct image *image, struct image_slice notes)
{
	const size_t smallest = sizeof(Elf64_Nhdr) + sizeof("stapsdt") + 3 * sizeof(uint64_t);
	struct note note;
	uint64_t *grown;

	grown = realloc(image->usdt,
			(image->n_usdt + notes.size / smallest + 1) * sizeof(*image->usdt));
	if (!grown)
		return -ENOMEM;
	image->usdt = grown;
	for (uint64_t at = 0; next_note(notes, &at, &note);) {
		if (note_is(&note, NT_STAPSDT, "stapsdt") && note.desc.size >= 3 * sizeof(uint64_t))
			memcpy(&grown[image->n_usdt++], note.desc.bytes, sizeof(*grown));
	}
	qsort(grown, image->n_usdt, sizeof(*grown), compare_address);
	return 0;
}

static void read_segments(struct image *image, Elf *elf)
{
	uint64_t unwind = 0;
	size_t count;
	GElf_Phdr phdr;

	if (elf_getphdrnum(elf, &count))
		return;
	for (size_t i = 0; i < count && gelf_getphdr(elf, i, &phdr); i++) {
		if (phdr.p_type == PT_GNU_EH_FRAME)
			unwind = phdr.p_vaddr;
		if (phdr.p_type == PT_NOTE && !image->build_id[0])
			read_build_id(image, file_slice(image, phdr.p_offset, phdr.p_filesz));
		if (phdr.p_type != PT_LOAD || image->n_segments == IMAGE_SEGMENTS ||
		    !file_slice(image, phdr.p_offset, phdr.p_filesz).bytes ||
		    phdr.p_filesz > phdr.p_memsz || phdr.p_vaddr + phdr.p_memsz < phdr.p_vaddr)
			continue;
		image->segments[image->n_segments++] = (struct image_segment){
			.vaddr = phdr.p_vaddr,
			.offset = phdr.p_offset,
			.file_bytes = phdr.p_filesz,
			.memory_bytes = phdr.p_memsz,
			.exec = phdr.p_flags & PF_X,
			.write = phdr.p_flags & PF_W,
		};
	}
	if (unwind)
		find_unwind_table(image, unwind);
}

static int read_sections(struct image *image, Elf *elf)
{
	Elf_Scn *section = NULL;
	GElf_Shdr shdr, strings;
	size_t names = 0;
	int ret = 0;

	elf_getshdrstrndx(elf, &names);
	while (!ret && (section = elf_nextscn(elf, section))) {
		struct image_table *table = NULL;
		struct image_slice slice;
		const char *name;

		if (!gelf_getshdr(section, &shdr) || shdr.sh_type == SHT_NOBITS)
			continue;
		slice = file_slice(image, shdr.sh_offset, shdr.sh_size);
		if (!slice.bytes)
			continue;
		if (shdr.sh_type == SHT_DYNSYM)
			table = &image->dynamic;
		else if (shdr.sh_type == SHT_SYMTAB)
			table = &image->full;
		if (table && !table->symbols.bytes &&
		    gelf_getshdr(elf_getscn(elf, shdr.sh_link), &strings))
			*table = (struct image_table){
				slice, file_slice(image, strings.sh_offset, strings.sh_size)};
		if (shdr.sh_type == SHT_RELA && (shdr.sh_flags & SHF_ALLOC) &&
		    image->n_rela < IMAGE_RELAS)
			image->rela[image->n_rela++] = slice;
		if (shdr.sh_type == SHT_NOTE) {
			read_build_id(image, slice);
			ret = read_usdt(image, slice);
		}
		name = elf_strptr(elf, names, shdr.sh_name);
		if (name && !strcmp(name, ".gnu_debuglink"))
			image->debug_link = slice;
	}
	return ret;
}

static int map_file(const char *path, struct image *image, struct seam_error *err)
{
	int fd, ret = 0;
	struct stat st;

	/* Non-blocking: a FIFO by that name must be refused, not waited for. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0) {
		ret = -errno;
		return seam_fail(err, ret, "cannot read %s: %s", path, strerror(-ret));
	}
	if (fstat(fd, &st)) {
		ret = seam_fail(err, -errno, "cannot stat %s: %s", path, strerror(errno));
		goto cleanup;
	}
	if (!S_ISREG(st.st_mode) || st.st_size < EI_NIDENT) {
		ret = seam_fail(err, -ENOEXEC, "%s is not an ELF program: %s", path,
				S_ISREG(st.st_mode) ? "it is too short" : "not a regular file");
		goto cleanup;
	}
	image->file = file_get(fd, &st);
	if (!image->file) {
		ret = seam_fail(err, -errno, "cannot map %s: %s", path, strerror(errno));
		goto cleanup;
	}
	image->bytes = image->file->bytes;
	image->size = image->file->size;
cleanup:
	close(fd);
	return ret;
}

/* Map an x86-64 program, or the debug file of one, and find its tables. */
static int read_file(const char *path, struct image *image, struct seam_error *err)
{
	Elf *elf = NULL;
	GElf_Ehdr ehdr;
	int ret;

	memset(image, 0, sizeof(*image));
	ret = map_file(path, image, err);
	if (ret)
		return ret;
	if (memcmp(image->bytes, ELFMAG, SELFMAG)) {
		ret = seam_fail(err, -ENOEXEC, "%s is not an ELF program", path);
		goto cleanup;
	}
	elf_version(EV_CURRENT);
	elf = elf_memory((char *)image->bytes, image->size);
	if (!elf || !gelf_getehdr(elf, &ehdr) || ehdr.e_ident[EI_CLASS] != ELFCLASS64 ||
	    ehdr.e_ident[EI_DATA] != ELFDATA2LSB || ehdr.e_machine != EM_X86_64 ||
	    (ehdr.e_type != ET_EXEC && ehdr.e_type != ET_DYN)) {
		ret = seam_fail(err, -ENOEXEC, "%s is not an x86-64 ELF program", path);
		goto cleanup;
	}
	read_segments(image, elf);
	ret = read_sections(image, elf);
	if (ret)
		seam_fail(err, ret, "no memory for the tables of %s", path);
cleanup:
	elf_end(elf);
	if (ret)
		image_close(image);
	return ret;
}

int image_open(const char *path, struct image *image, struct seam_error *err)
{
	int ret = read_file(path, image, err);

	if (ret)
		return ret;
	ret = index_functions(image, INDEX_DYNAMIC);
	if (ret) {
		seam_fail(err, ret, "no memory for the symbols of %s", path);
		image_close(image);
	}
	return ret;
}

void image_rest(const struct image *image)
{
	const struct image_file *debug = image->file->debug;

	/* They stay in the page cache. Whether the kernel takes the advice is of no concern. */
	madvise((void *)image->bytes, image->size, MADV_DONTNEED);
	if (debug)
		madvise((void *)debug->bytes, debug->size, MADV_DONTNEED);
}

void image_close(struct image *image)
{
	free(image->usdt);
	if (image->file)
		file_put(image->file);
	memset(image, 0, sizeof(*image));
}

/* --- the debug file of a stripped one ----------------------------------------------------------
 */

static bool take_debug_file(struct image *image, const char *path)
{
	struct image_file *file = image->file;
	struct image debug;
	bool right;

	if (read_file(path, &debug, NULL))
		return false;
	right = !strcmp(debug.build_id, image->build_id) && debug.full.symbols.bytes &&
		debug.file != file;
	pthread_mutex_lock(&files_lock);
	if (right && !file->debug) {
		file->debug = debug.file;
		file->debug_symtab = debug.full;
		debug.file = NULL;
	}
	pthread_mutex_unlock(&files_lock);
	image_close(&debug);
	return right;
}

/* Where debuggers look, but for servers. What bears the build id is the right one. */
static bool find_debug_file(struct image *image, const char *path)
{
	const char *link = slice_string(image->debug_link, 0);
	char real[PATH_MAX], try[2 * PATH_MAX];
	const char *slash;
	ssize_t length;
	int folder;

	if (!image->build_id[0])
		return false;
	snprintf(try, sizeof(try), DEBUG_FOLDER "/.build-id/%.2s/%s.debug", image->build_id,
		 image->build_id + 2);
	if (take_debug_file(image, try))
		return true;
	/* /proc/PID/exe and the like are links to it. */
	length = readlink(path, real, sizeof(real) - 1);
	if (length > 0)
		real[length] = '\0';
	else
		snprintf(real, sizeof(real), "%s", path);
	slash = strrchr(real, '/');
	if (!link || !slash)
		return false;
	folder = (int)(slash - real);
	snprintf(try, sizeof(try), "%.*s/%s", folder, real, link);
	if (take_debug_file(image, try))
		return true;
	snprintf(try, sizeof(try), "%.*s/.debug/%s", folder, real, link);
	if (take_debug_file(image, try))
		return true;
	snprintf(try, sizeof(try), DEBUG_FOLDER "%.*s/%s", folder, real, link);
	return take_debug_file(image, try);
}

int image_read_symtab(struct image *image, const char *path)
{
	struct image_file *file = image->file;

	if (!image->full.symbols.bytes) {
		pthread_mutex_lock(&files_lock);
		image->full = file->debug_symtab;
		pthread_mutex_unlock(&files_lock);
	}
	if (!image->full.symbols.bytes) {
		if (!find_debug_file(image, path))
			return -ENOENT;
		image->full = file->debug_symtab;
	}
	return index_functions(image, INDEX_FULL);
}
