/*
 * crash_damage: what disks do to an account's index besides losing power: bits
 * flip, pages are torn or lost, files are cut short, a record is written wrongly, a sector is lost.
 */
#ifndef TESTS_CRASH_CRASH_DAMAGE_H
#define TESTS_CRASH_CRASH_DAMAGE_H

#include <stdbool.h>
#include <stdint.h>

enum crash_damage {
	DAMAGE_NONE,
	DAMAGE_INDEX_FLIP,
	DAMAGE_INDEX_TEAR,
	DAMAGE_INDEX_ZEROS, /* a page, which has no sum then */
	DAMAGE_INDEX_CUT,
	DAMAGE_INDEX_RECORD, /* one octet of a record, in a page that is sound */
	DAMAGE_SUMMARY_FLIP,
	DAMAGE_SUMMARY_CUT,
	DAMAGE_BASE_HEADER,
	DAMAGE_BASE_FLIP,
	DAMAGE_BASE_CUT,
	DAMAGE_INDEX_AND_BASE,
	DAMAGE_LOG_FLIP, /* of these two: only where the log is known to have been synced */
	DAMAGE_LOG_SECTOR,
	DAMAGE_KINDS
};

/* Does that to the index below root; false when there is nothing to do it to, and then nothing is changed. */
bool crash_damage(const char *root, enum crash_damage kind, uint64_t seed);
/* Is the log of the index below root one that was damaged where it had been synced? */
bool crash_log_damaged(const char *root);
bool crash_damages_base(enum crash_damage kind);
const char *crash_damage_name(enum crash_damage kind);

#endif
