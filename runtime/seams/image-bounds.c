/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where functions end: the unwind table knows, symbols only claim to.
 */
#include <string.h>

#include "runtime/seams/image-private.h"

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
void image_find_unwind_table(struct image *image, uint64_t vaddr)
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
