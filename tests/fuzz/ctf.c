/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Traces whose packets and indices do not fit their files, before babeltrace2 sees them: every one
 * is refused with a sentence, or what is left of it can be read, and nothing stays behind.
 */
#include <endian.h>
#include <sys/stat.h>

#include "analyzers/ctf/whole.h"
#include "tests/fuzz/fuzz.h"

static char *folder, *metadata, *stream, *index_folder, *index_file;

static void remove_folder(void)
{
	unlink(metadata);
	unlink(stream);
	unlink(index_file);
	rmdir(index_folder);
	rmdir(folder);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	folder = fuzz_folder();
	metadata = g_build_filename(folder, "metadata", NULL);
	stream = g_build_filename(folder, "channel0_0", NULL);
	index_folder = g_build_filename(folder, "index", NULL);
	index_file = g_build_filename(index_folder, "channel0_0.idx", NULL);
	g_assert_cmpint(mkdir(index_folder, 0700), ==, 0);
	atexit(remove_folder);
	return 0;
}

static void put(GByteArray *to, const void *bytes, size_t size)
{
	g_byte_array_append(to, bytes, size);
}

static void write_file(const char *path, GByteArray *bytes, struct fuzz *f)
{
	FILE *out = fopen(path, "we");

	if (fuzz_u8(f) > 200)
		g_byte_array_set_size(bytes, fuzz_u32(f) % (bytes->len + 1));
	if (!out || (bytes->len && !fwrite(bytes->data, bytes->len, 1, out)) || fclose(out))
		abort();
}

/* Right, but for what the input says. */
static uint64_t or_odd(struct fuzz *f, uint64_t right)
{
	return fuzz_u8(f) < 230 ? right : fuzz_number(f);
}

static void make_metadata(struct fuzz *f)
{
	g_autoptr(GByteArray) bytes = g_byte_array_new();
	bool swapped = fuzz_u8(f) & 1;

	if (fuzz_u8(f) > 220)
		put(bytes, "/* CTF 1.8 */", 13);
	for (int n = fuzz_u8(f) % 4; n >= 0; n--) {
		uint32_t text = fuzz_u8(f), header[10] = {};
		uint8_t filler[256] = {};

		header[0] = or_odd(f, 0x75d11d57);
		header[6] = or_odd(f, (37 + text) * 8);
		header[7] = or_odd(f, (37 + text) * 8);
		for (int i = 0; swapped && i < 10; i++)
			header[i] = __builtin_bswap32(header[i]);
		put(bytes, header, 37);
		put(bytes, filler, text);
	}
	write_file(metadata, bytes, f);
}

static void make_stream(struct fuzz *f)
{
	g_autoptr(GByteArray) bytes = g_byte_array_new(), index = g_byte_array_new();
	uint32_t header[4] = {htobe32(or_odd(f, 0xc1f1dcc1)), htobe32(1), htobe32(1),
			      htobe32(or_odd(f, 16))};
	uint64_t end = 0;

	put(index, header, sizeof(header));
	for (int n = fuzz_u8(f) % 8; n >= 0; n--) {
		uint64_t size = fuzz_u8(f) * 16;
		uint64_t entry[2] = {htobe64(or_odd(f, end)), htobe64(or_odd(f, size * 8))};

		end += size;
		put(index, entry, sizeof(entry));
	}
	g_byte_array_set_size(bytes, end);
	if (end)
		memset(bytes->data, 0, end);
	write_file(stream, bytes, f);
	write_file(index_file, index, f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz f = {data, size};
	struct store_error err = {};
	struct ctf_whole whole;
	g_autofree char *made = NULL;
	struct stat st;
	int ret;

	make_metadata(&f);
	make_stream(&f);
	ret = ctf_whole(folder, &whole, &err);
	if (ret) {
		g_assert_cmpint(ret, <, 0);
		g_assert_true(*err.text);
	} else {
		g_assert_nonnull(whole.path);
	}
	made = g_strdup(whole.made);
	/* Whoever is given another folder is told why. */
	if (made)
		g_assert_true(*whole.damage);
	ctf_whole_clear(&whole);
	if (made)
		g_assert_cmpint(stat(made, &st), !=, 0);
	return 0;
}
