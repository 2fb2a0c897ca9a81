/*
 * config_file: the one configuration file as text: `name = value` lines, values with blanks in
 * quotes, comments with #. The names are those of common/options.def; a later line wins.
 */
#ifndef ADMIN_CONFIG_FILE_H
#define ADMIN_CONFIG_FILE_H

#include "common/config.h"

#include <stdio.h>

#define CONFIG_FILE_DEFAULT "/etc/mailstead/mailstead.conf"

/*
 * Reads and checks the whole file. On -1 e->detail is "FILE:LINE: what is wrong and what to write
 * instead". The caller frees *config_r. Blocks on the file.
 */
int config_file_load(const char *path, struct config **config_r, struct err *e)
    __attribute__((warn_unused_result));

/* Prints every setting as a line of such a file, with help and bounds as comments when `explained`.
 */
void config_file_print(const struct config *c, bool explained, FILE *out);
/* The manual page mailstead.conf(5), in man(7) format. */
void config_file_man(FILE *out);

#endif
