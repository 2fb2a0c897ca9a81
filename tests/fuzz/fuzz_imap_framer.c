/* The framer in one block and octet by octet: the same commands, and every octet is used. */
#include "imapd/imap_framer.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LOG_BYTES_MAX (1u << 20)

static void
note(struct buf *log, uint8_t kind, struct slice text)
{
	(void)buf_put_u8(log, kind);
	(void)buf_put_slice(log, text);
}

/* policy: bit n decides how the n-th literal is answered. */
static void
run(struct slice in, size_t chunk, uint8_t policy, struct buf *log)
{
	struct imap_framer f;

	imap_framer_init(&f, (struct imap_framer_limits){128, 256, 1u << 20});
	while (in.n > 0) {
		size_t used;
		enum imap_frame got = imap_framer_feed(&f, slice_sub(in, 0, chunk), &used);

		assert(used > 0 && used <= in.n);
		in = slice_sub(in, used, in.n);
		switch (got) {
		case IMAP_FRAME_MORE:
			break;
		case IMAP_FRAME_SPOOL:
			note(log, 0, f.spool);
			break;
		case IMAP_FRAME_LITERAL:
			policy = (uint8_t)(policy << 1 | policy >> 7);
			if ((policy & 3) == 0)
				imap_framer_spool(&f);
			else if (((policy & 3) == 1 || !imap_framer_accept(&f)) && !imap_framer_refuse(&f))
				in.n = 0;
			break;
		case IMAP_FRAME_FATAL:
			in.n = 0;
			break;
		case IMAP_FRAME_COMMAND:
		case IMAP_FRAME_ERROR:
			assert(imap_framer_command(&f).n <= 256);
			note(log, got == IMAP_FRAME_COMMAND ? 'C' : 'E', imap_framer_command(&f));
			imap_framer_next(&f);
			break;
		}
	}
	imap_framer_fini(&f);
}

/* Spooled pieces differ with the chunks; their octets do not. */
static void
without_marks(struct buf *log)
{
	size_t n = 0;

	for (size_t i = 0; i < log->n; i++)
		if (log->p[i] != 0)
			log->p[n++] = log->p[i];
	log->n = n;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf whole;
	struct buf bytes;

	if (size == 0)
		return 0;
	buf_init(&whole, LOG_BYTES_MAX);
	buf_init(&bytes, LOG_BYTES_MAX);
	run(slice_of(data + 1, size - 1), size, data[0], &whole);
	run(slice_of(data + 1, size - 1), 1, data[0], &bytes);
	without_marks(&whole);
	without_marks(&bytes);
	if (!whole.failed && !bytes.failed)
		assert(slice_eq(buf_slice(&whole), buf_slice(&bytes)));
	buf_fini(&whole);
	buf_fini(&bytes);
	return 0;
}
