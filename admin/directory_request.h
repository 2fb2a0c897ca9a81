/*
 * directory_request: what the domain, account and alias commands have in common:
 * one request to the directory and its answer. Each blocks, says on stderr what went wrong, and
 * gives the exit status.
 */
#ifndef ADMIN_DIRECTORY_REQUEST_H
#define ADMIN_DIRECTORY_REQUEST_H

#include "admin/command.h"

/* Asks for a change (the verbs of authd/directory_admin.c). hash: from password_hash(), or "". */
enum command_status directory_change(const struct command_call *call, const char *verb,
    const char *name, struct slice value, const char *hash);

/* Fetches all pages of a list into rows, a JSON array. */
enum command_status directory_rows(const struct command_call *call, const char *verb, const char *name, json_t *rows);

/* The same, and prints them. name: a domain, or "" for all. */
enum command_status directory_list(const struct command_call *call, const char *verb,
    const char *name, const struct command_column *columns);

/* The account of that address; json_r, its row as `account list` has it, is the caller's. */
enum command_status directory_account(const struct command_call *call, const char *address, json_t **json_r);

/* Reads a new password (command_password()) and hashes it into hash_r, of PASSWORD_HASH_SIZE. */
enum command_status directory_new_password(char *hash_r);

/*
 * Takes "--word" out of the words, wherever it stands. option_value also takes the word behind it;
 * *value_r is NULL when the option is not there, and false means that its value is missing.
 */
bool option_flag(int *argc, char **argv, const char *word);
bool option_value(int *argc, char **argv, const char *word, const char **value_r);

/* COMMAND_USAGE when a word that is left begins with "--", or there are not least..most words; else
 * COMMAND_OK. */
enum command_status option_end(
    const struct command_call *call, int argc, char **argv, int least, int most);

#endif
