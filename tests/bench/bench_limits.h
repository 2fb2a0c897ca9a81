/*
 * bench_limits: what the machine can do at this moment, to measure the store
 * against. Each ends the bench when it cannot be had.
 */
#ifndef TESTS_BENCH_BENCH_LIMITS_H
#define TESTS_BENCH_BENCH_LIMITS_H

#include <stddef.h>

/* fdatasync of an overwritten block of a file, one after the other: how many a second. */
double limit_syncs(const char *dir, unsigned count);
/* create + write + fsync + fsync of the directory, by `writers` processes in directories of their own: files a second. */
double limit_writers(const char *dir, unsigned writers, unsigned count, size_t bytes);
/* Microseconds of a round trip of 64 octets between two processes over SOCK_SEQPACKET. */
double limit_round_trip(unsigned count);
/* memcpy of blocks that no cache holds: octets a second. */
double limit_memory(void);
/* A file of that size, in the page cache, read from its start to its end in pieces of 64 KiB: octets a second. */
double limit_read(const char *dir, size_t bytes);

#endif
