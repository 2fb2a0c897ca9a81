/*
 * dump_objects: a dump judged, and the objects that it names, by a confined child (admin/confined.h): a dump is somebody's text.
 */
#ifndef ADMIN_DUMP_OBJECTS_H
#define ADMIN_DUMP_OBJECTS_H

#include "admin/command.h"
#include "store/load.h"

/*
 * Reads all of file fd, which stays the caller's; label is its name for people. COMMAND_OK: it is whole and fits together. Else it was
 * said what is wrong. *list_r, for the caller to free(), has its *n_r objects as load_objects() gives them, but without counts.
 */
enum command_status dump_objects(const char *label, int fd, struct load_object **list_r, size_t *n_r);

#endif
