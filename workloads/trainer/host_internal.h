/* A trainer that is a program: its state, and how it is asked. One thread. */
#ifndef FL_WORKLOADS_TRAINER_HOST_INTERNAL_H
#define FL_WORKLOADS_TRAINER_HOST_INTERNAL_H

#include "workloads/trainer/host.h"
#include "workloads/trainer/link.h"

#define FL_HOST_LINE_MAX_BYTES 4096

struct fl_host {
    struct fl_trainer base;
    struct fl_trainer_ops ops; /* with the program's name */
    struct fl_env env;
    struct fl_trainer_program limits; /* without its texts */
    struct fl_link link;
    int socket, output, process;
    uint32_t last_id;
    bool dead;
    int64_t examples;
    json_t *hello;
    char line[FL_HOST_LINE_MAX_BYTES]; /* under way */
    size_t line_len;
    char last_line[256];
    struct fl_trainer_failure failure;
};

/* What is asked, and what is to be done while waiting for the answer. */
struct fl_host_question {
    unsigned type;
    json_t *head; /* stolen */
    const struct fl_body *body;
    int64_t timeout_ms;                   /* of silence */
    const struct fl_fit_options *options; /* of a fit, else NULL */
};

/* The RESULT (the caller's). Whatever goes wrong is noted as the host's failure, too. */
int fl_host_ask(struct fl_host *host, const struct fl_host_question *question,
                struct fl_frame *ret_frame, struct fl_error *err);
/* A result that makes no sense says that the program is wrong, not that it is gone. INVALID. */
int fl_host_bad_result(struct fl_host *host, const struct fl_error *why, struct fl_error *err);
/* It speaks another language: it is ended. */
int fl_host_refuse(struct fl_host *host, struct fl_error *err, const char *what);
/* All body_size bytes of it. INVALID where its memory is not what it should be. */
int fl_host_copy_body(const struct fl_frame *frame, void *out, struct fl_error *err);
/* With all that it started. */
void fl_host_kill(struct fl_host *host);
void fl_host_clear_failure(struct fl_host *host);

#endif
