/* The parts of attest among themselves. */
#ifndef FL_RECONCILERS_ATTEST_INTERNAL_H
#define FL_RECONCILERS_ATTEST_INTERNAL_H

#include "reconcilers/imagebuild/attest/attest.h"

/* Calls `each` for every package of every platform; `platform` is its index. */
typedef void attest_package_fn(void *user, size_t platform, const struct fl_package *package);
void attest_each_package(const struct fl_composed *composed, attest_package_fn *each, void *user);

/* The hex digits of "sha256:…". */
const char *attest_hex(const char *digest);

#endif
