/*
 * retained_reader: what expunged messages say, read by a confined child (admin/confined.h): whether they have the texts that are
 * looked for, and what a list shows of them.
 */
#ifndef ADMIN_RETAINED_READER_H
#define ADMIN_RETAINED_READER_H

#include "admin/confined.h"

/* Octets of From and of Subject that are told; what is longer is cut. */
#define RETAINED_TEXT_BYTES_MAX 16384u

/* Texts to be looked for, folded (common/text.h); an empty one is anywhere. */
struct retained_needles {
	struct buf from;
	struct buf subject;
	struct buf summary; /* From, To, Cc, Subject or the preview */
	struct buf text;    /* the whole message */
};

/* Valid until the next answer. */
struct retained_text {
	bool known; /* false: there is no summary, and none could be made */
	bool has_date;
	int64_t date;
	struct slice from;
	struct slice subject;
};

struct retained_reader {
	struct confined child;
};

/* needles stays unchanged until the end. Else than COMMAND_OK it was said why, here and below. */
enum command_status retained_reader_open(struct retained_reader *r, const struct retained_needles *needles);
void retained_reader_close(struct retained_reader *r);
/* One answer of the keeper: its records of that many octets, and n objects. Descriptors stay the caller's. */
enum command_status retained_reader_batch(struct retained_reader *r, int records, uint64_t bytes, const int *objects, unsigned n);
/* Of the batch's next message, in their order: are all needles in it? */
enum command_status retained_reader_next(struct retained_reader *r, bool *meant_r, struct retained_text *text_r);

#endif
