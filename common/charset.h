/*
 * charset: text of mail to UTF-8. US-ASCII, UTF-8, ISO-8859-1 and
 * windows-1252 are built in; the others are iconv converters from a fixed
 * list, opened by charset_init() because iconv_open() loads modules from disk
 * at run time, which a sandboxed role may not. One thread only.
 */
#ifndef COMMON_CHARSET_H
#define COMMON_CHARSET_H

#include "common/buf.h"
#include "common/slice.h"

#define CHARSET_NAME_BYTES_MAX 64

/* Opens all converters of the list. Call once before the sandbox closes; again is harmless. */
void charset_init(void);
/* Closes them (for leak checkers). */
void charset_fini(void);

/* True when text in that charset can be converted (after charset_init()). */
bool charset_known(struct slice name);

enum charset_result {
	CHARSET_OK,
	CHARSET_REPLACED, /* some octets were no text in that charset: U+FFFD stands for them */
	CHARSET_UNKNOWN,  /* name not in the list: taken as UTF-8 when valid, else as windows-1252 */
	CHARSET_FULL,	  /* out's maximum was reached; out holds whole characters up to it */
};

/*
 * Appends `in` as UTF-8 to out. The empty name is US-ASCII, in which octets
 * over 127 are taken as for CHARSET_UNKNOWN (real mail has them). Linear.
 */
enum charset_result charset_to_utf8(struct slice name, struct slice in, struct buf *out);

/*
 * The same for a stream of chunks: multi-octet characters and shift states may
 * be split between them. Text without faults comes out as from charset_to_utf8();
 * where octets are no text in the charset, the converters of the C library may put U+FFFD
 * elsewhere, and in US-ASCII and unknown charsets windows-1252 is used from the
 * first octet on that is no UTF-8.
 */
struct charset_stream;
struct charset_stream *charset_stream_new(struct slice name) __attribute__((warn_unused_result));
void charset_stream_free(struct charset_stream **s);
enum charset_result charset_stream_feed(struct charset_stream *s, struct slice in, struct buf *out);
/* What is left of an incomplete character becomes U+FFFD. */
enum charset_result charset_stream_end(struct charset_stream *s, struct buf *out);

/* RFC 3629: no overlong forms, no surrogates, nothing over U+10FFFF. NUL is valid. */
bool utf8_valid(struct slice s);
/* The longest prefix of s of at most max octets that does not cut a character. */
struct slice utf8_cut(struct slice s, size_t max);
/*
 * Decodes one code point at the start of s (s.n > 0) and returns its octets;
 * for an invalid sequence *cp_r is 0xFFFD and the return is the octets to skip (1..3).
 */
size_t utf8_next(struct slice s, uint32_t *cp_r);
/* Appends one code point; surrogates and values over U+10FFFF become U+FFFD. */
bool utf8_put(struct buf *out, uint32_t cp);

#endif
