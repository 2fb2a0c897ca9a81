/*
 * Functions that have no safe use here. Every .c file of the project is
 * compiled with -include common/banned.h, so that a use is a compile error
 * that names the replacement.
 */
#ifndef COMMON_BANNED_H
#define COMMON_BANNED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* clang's fortified stdio.h makes macros of these two. */
#undef sprintf
#undef vsprintf
#pragma GCC poison strcpy strcat strncpy strncat sprintf vsprintf strtok atoi atol atoll
#pragma GCC poison gets ctime localtime gmtime asctime system popen tmpnam mktemp
#pragma GCC poison setjmp longjmp

#endif
