/* A driver that goes wrong on demand, over any other: registered as "faulty-NAME" over NAME. For
 * tests and the simulation. What it shall do is one table for the process, because drivers are
 * found by name; its fields may be changed at any time, from any thread. */
#ifndef FL_CONTROLLER_STORE_FAULTY_H
#define FL_CONTROLLER_STORE_FAULTY_H

#include "controller/store/store_driver.h"

#include <stdatomic.h>

struct fl_store_faults {
    atomic_int fail_commits; /* how many of the next commits fail; < 0: all from now on */
    atomic_int commit_delay_ms;
    atomic_bool hold_commits; /* commits wait until it is false again */
    atomic_int held;          /* commits that wait so */
    atomic_int fail_compacts;
};

extern struct fl_store_faults fl_store_faults;

/* Makes the driver known over "memory" and over "sqlite". */
int fl_store_faulty_register(struct fl_error *err);

#endif
