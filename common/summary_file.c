/* The summary of a message that has none, from its file. */
#include "common/memfd.h"
#include "common/summary.h"

#define READ_BYTES (64u * 1024)

bool
summary_of_file(int fd, struct buf *out)
{
	struct summary_builder *builder = summary_builder_new(0);
	static uint8_t scratch[READ_BYTES];
	uint64_t offset = 0;
	int64_t n;

	while ((n = memfd_read(fd, offset, scratch, sizeof scratch, NULL)) > 0) {
		summary_builder_feed(builder, slice_of(scratch, (size_t)n));
		offset += (uint64_t)n;
	}
	bool made = n == 0 && summary_builder_finish(builder, out);

	summary_builder_free(&builder);
	return made;
}
