/*
 * date: the date formats of mail, without locale, time zone database or the
 * C library's calendar. Seconds are since 1970-01-01 00:00:00 UTC, without
 * leap seconds; years 1 to 9999 (RFC 5322 dates: 1900 to 9999).
 */
#ifndef COMMON_DATE_H
#define COMMON_DATE_H

#include "common/slice.h"

struct date_time {
	int64_t seconds;      /* UTC */
	int16_t zone_minutes; /* east of UTC, for printing and for the local day */
	bool zone_unknown;    /* "-0000", a military or unknown zone name (RFC 5322 3.3, 4.3) */
};

#define DATE_RFC5322_SIZE 32 /* "Thu, 13 Feb 1969 23:32:54 -0330" and NUL */
#define DATE_IMAP_SIZE 27    /* "17-Jul-1996 02:44:25 -0700" and NUL */
#define DATE_DAY_SIZE 12     /* "17-Jul-1996" and NUL */
#define DATE_RFC3339_SIZE 21 /* "1996-07-17T09:44:25Z" and NUL */

/*
 * date-time of RFC 5322 3.3 with the obsolete forms of 4.3 (two-digit years,
 * zone names, comments, missing seconds, white space anywhere); the day of
 * the week is not checked against the date. What follows the zone is ignored.
 * False when there is no valid date (31 Feb, hour 24, second 61).
 */
bool date_rfc5322_parse(struct slice s, struct date_time *date_r);
/* Prints with NUL; out has DATE_RFC5322_SIZE octets. Seconds out of the years 1..9999 are clamped. */
void date_rfc5322_print(struct date_time date, char *out);

/*
 * date-time of RFC 9051 9, without its quotes: `17-Jul-1996 02:44:25 -0700`,
 * the day as two digits or SP and one. Strict: anything else is false.
 */
bool date_imap_parse(struct slice s, struct date_time *date_r);
void date_imap_print(struct date_time date, char *out);

/* IMAP's date-text of SEARCH keys (`1-Feb-1994`), strict, without quotes: days since 1970-01-01. */
bool date_day_parse(struct slice s, int64_t *day_r);
void date_day_print(int64_t day, char *out);

/*
 * The calendar day at the place the date was written (days since 1970-01-01): time
 * of day and zone disregarded, as SENTON and ON want it (RFC 9051 6.4.4).
 */
int64_t date_local_day(struct date_time date);

/* UTC, for logs and JSON. */
void date_rfc3339_print(int64_t seconds, char *out);
/* Exactly what is printed, or only its day, which is its first second; strict. */
bool date_rfc3339_parse(struct slice s, int64_t *seconds_r);
/* date-time of RFC 3339 5.6 as others write it: with a zone, and perhaps a fraction of a second, which is dropped. */
bool date_time_parse(struct slice s, int64_t *seconds_r);

#endif
