/* Names and lists of a Maildir: each line is taken as each of them; what is taken is what a mailbox can have. */
#include "admin/maildir_parse.h"
#include "common/charset.h"
#include "store/store.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
folder(struct slice line, uint8_t separator)
{
	struct buf name, directory;

	buf_init(&name, 4096);
	buf_init(&directory, 4096);
	if (maildir_folder_decode(line, separator, &name)) {
		assert(utf8_valid(buf_slice(&name)) && name.n <= STORE_NAME_BYTES_MAX);
		if (maildir_folder_encode(buf_slice(&name), &directory)) {
			struct buf again;

			buf_init(&again, 4096);
			assert(directory.p[0] == '.');
			assert(maildir_folder_decode(slice_sub(buf_slice(&directory), 1, directory.n), '.', &again));
			assert(slice_eq(buf_slice(&again), buf_slice(&name)));
			buf_fini(&again);
		}
	} else {
		assert(name.n == 0);
	}
	buf_fini(&name);
	buf_fini(&directory);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice rest = slice_of(data, size), line, part;
	struct maildir_uidlist_head head;
	uint32_t uid;
	unsigned index;

	while (slice_cut(&rest, '\n', &line)) {
		struct maildir_name n = maildir_name_parse(line);

		assert(n.base.n <= line.n && (n.flags & ~STORE_FLAGS_ALL) == 0 && n.letters >> MAILDIR_KEYWORDS_MAX == 0);
		if (maildir_uidlist_head_parse(line, &head))
			assert(head.uidvalidity != 0 && head.uidnext != 0 && (head.version == 1 || head.version == 3));
		for (unsigned version = 1; version <= 3; version += 2)
			if (maildir_uidlist_line_parse(line, version, &uid, &part))
				assert(uid != 0 && part.n > 0 && slice_index(part, ':') == part.n);
		if (maildir_keyword_line_parse(line, &index, &part))
			assert(index < MAILDIR_KEYWORDS_MAX && maildir_keyword_ok(part));
		folder(line, '.');
		folder(line, '/');
		folder(line, '\t');
	}
	return 0;
}
