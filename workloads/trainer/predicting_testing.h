/* A program that predicts, for tests: the test itself, started again with the arguments "predictor"
 * and a role. A row is two numbers, its answer their sum and the model's first byte. The first
 * number of a batch says what happens: see predicting_testing.c. */
#ifndef FL_WORKLOADS_PREDICTING_TESTING_H
#define FL_WORKLOADS_PREDICTING_TESTING_H

enum {
    FL_PREDICTING_KILL = 101, /* it dies */
    FL_PREDICTING_HANG,
    FL_PREDICTING_NAN,
    FL_PREDICTING_SHORT, /* too few answers */
    FL_PREDICTING_ERROR, /* an error of its own */
};

/* Its main. Roles: "good"; "mute" does not predict; "shape", "size" load with nonsense;
 * "unloadable" ends at LOAD. */
int fl_predicting_main(const char *role);

#endif
