/*
 * summary_private: what the files of the summary share; the layout itself is in summary.h.
 */
#ifndef COMMON_SUMMARY_PRIVATE_H
#define COMMON_SUMMARY_PRIVATE_H

#include "common/buf.h"
#include "common/mime.h"

#define SUMMARY_FLAGS_AT 1
#define SUMMARY_PREFIX_AT 2
#define SUMMARY_FIXED_BYTES 92
#define SUMMARY_PART_BYTES 48

#define SUMMARY_FLAG_FLAT 1
#define SUMMARY_FLAG_DATE 2
#define SUMMARY_FLAG_CUT 4
#define SUMMARY_FLAG_ASCII_HEADERS 8
#define SUMMARY_FLAGS_ALL 15

/* Puts the preview of the message (RFC 8970) as a slice; the empty slice when there is no text. */
void summary_put_preview(const struct mime_part *root, struct buf *out);

#endif
