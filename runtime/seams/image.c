/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Open an ELF file and answer questions about its addresses.
 *
 * libelf reads the headers; the tables are then read through bounds-checked slices of the mapped
 * file.
 */
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/seams/image-private.h"

/* Of a note by the name "stapsdt"; no header has it. */
#define NT_STAPSDT 3

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

/* --- addresses ---------------------------------------------------------------------------------
 */

static struct image_slice file_slice(const struct image *image, uint64_t offset, uint64_t size)
{
	if (offset > image->size || size > image->size - offset)
		return (struct image_slice){0};
	return (struct image_slice){image->bytes + offset, size};
}

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
		image_find_unwind_table(image, unwind);
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
	image->file = image_file_get(fd, &st);
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

int image_read(const char *path, struct image *image, struct seam_error *err)
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
	int ret = image_read(path, image, err);

	if (ret)
		return ret;
	ret = image_index_functions(image, INDEX_DYNAMIC);
	if (ret) {
		seam_fail(err, ret, "no memory for the symbols of %s", path);
		image_close(image);
	}
	return ret;
}

void image_close(struct image *image)
{
	free(image->usdt);
	if (image->file)
		image_file_put(image->file);
	memset(image, 0, sizeof(*image));
}
