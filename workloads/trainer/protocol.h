/* clang-format off */
/* The trainer protocol: how a learner drives a program that trains. Version 1.
 *
 * This header is all that one needs to write a trainer in any language. The trainer is started with
 * one end of a connected stream socket (AF_UNIX) as descriptor 3, standard input from /dev/null,
 * and standard output and error going to the learner's log. It answers requests, one after the
 * other, until it is told to stop or the socket ends; then it exits. It never speaks without being
 * asked.
 *
 * FRAMES. Both sides send frames: 24 bytes of header, `head_size` bytes of JSON (an object, UTF-8),
 * then `body_size` bytes of data. All numbers are little-endian.
 *
 *     offset size
 *          0    4  "FLT1"
 *          4    2  type       see below
 *          6    2  flags      1 DESCRIPTOR: the body is not in the socket but in sealed memory
 *                             2 SKIPPABLE: who does not know the type ignores the frame
 *          8    4  id         of a request: any number, which its answers carry
 *         12    4  head_size  at most 1 MiB; 0 is the empty object
 *         16    8  body_size  at most what hello said (maxBodyBytes)
 *
 * DESCRIPTOR: one descriptor comes as SCM_RIGHTS with the header's first byte: a memfd of exactly
 * body_size bytes, sealed against writing and shrinking (F_SEAL_WRITE, F_SEAL_SHRINK), to be
 * mapped. It may be used where the other side's hello had "descriptors": true.
 *
 * Unknown flags, a wrong magic, sizes above their bounds, a head that is no JSON object, and types
 * that are unknown and not SKIPPABLE are errors that end the connection. Fields of a head that one
 * does not know are ignored. Bodies stand only where this page says so.
 *
 * REQUESTS, from the learner. Each gets exactly one RESULT or ERROR, and before it any number of
 * PROGRESS. A trainer offers what its hello lists under "can"; others it answers with an ERROR.
 *
 *   1 HELLO     {"version": 1, "descriptors": true, "maxBodyBytes": 8589934592}
 *               First, and once. RESULT: {"version": 1, "name": "mnist-cnn", "descriptors": true,
 *               "maxBodyBytes": …, "can": ["init", "fit", "evaluate", "export"], "examples": 600}.
 *               The version is the highest that both know; who knows none in common sends an ERROR.
 *               "shared": true says that the process will serve many learners, one after the other:
 *               LEARNER comes before anything else (where "can" lists it).
 *               "data" may be there, too: what the learner was told to train on, a list of
 *               {"name": "mnist.3", "examples": 600, "file": "/…/data.safetensors",
 *               "rows": {"file": "/…/rows.safetensors", "part": 3}}. The file has the tensors
 *               "features" (F32, an example a row) and "labels" (I32, classes) or "targets" (F32),
 *               and the notes "classes" (a number) and "classNames" (JSON). Where there are "rows",
 *               only those are meant: of its tensor "rows" (U32) the items from starts[part] to
 *               starts[part + 1] - 1, "starts" being U64. Neither file is ever changed in place.
 *               Without "file" the node knows nothing by this name: the trainer may. Two data sets
 *               or more count as one. Where "predicts" is true, it is to predict (8, 9) and never to
 *               train: there is no data, and none needs to be prepared.
 *   2 INIT      {"seed": "42"}
 *               RESULT body: a fresh model, safetensors
 *   3 FIT       {"epochs": 1, "batchSize": 10 (0: all examples at once), "learningRate": 0.05,
 *                "momentum": 0, "proximalMu": 0, "weightDecay": 0, "seed": "42",
 *                "lossBefore": true, "config": {…}}
 *               body: the model to start from
 *               RESULT: {"examples": 600, "steps": 60, "lossBefore": 2.3 or null, "loss": 0.4,
 *                "metrics": {"name": number, …}}
 *               body: the trained model, of the same tensors
 *               PROGRESS: {"done": 12, "of": 60}, in steps; at least every few seconds: silence is
 *               taken for a hang (the learner's deadline; 5 minutes unless it says otherwise)
 *   4 EVALUATE  {}
 *               body: the model
 *               RESULT: {"examples": 100, "loss": 0.2, "accuracy": 0.97 or null, "metrics": {…}}
 *   5 EXPORT    {"format": "onnx"}
 *               body: the model
 *               RESULT body: the exported file
 *   6 CANCEL    {"id": 3}  gets no answer: the request of that id should end soon with an ERROR of
 *               reason Cancelled (or with its RESULT, where that was on its way). To look for it is
 *               up to the trainer; who does not is killed when the learner loses patience.
 *   7 STOP      {}  RESULT {}, and the trainer exits with status 0.
 *   8 LOAD      {}
 *               body: the model to predict with from now on
 *               RESULT: {"input": {"shape": [28, 28]}, "output": {"size": 10}}: of one row. Who
 *               offers this and PREDICT has "predict" under "can". One that failed leaves the
 *               model before it in its place.
 *   9 PREDICT   {"rows": 32}
 *               body: the inputs, F32, one row after the other
 *               RESULT {"rows": 32}
 *               body: the answers, likewise; all are finite
 *  10 LEARNER   {"learner": "learner-000003", "seed": "42", "part": 3, "parts": 20, "keep": false,
 *               "data": as in hello}. RESULT {"examples": 600}. What follows is asked for another
 *               learner, whose data, number and chance these are: nothing of the one before may be
 *               seen by it. With "keep" what it leaves is there again at its next turn with "keep";
 *               otherwise each turn is its first.
 *
 * ANSWERS, from the trainer.
 *
 *  64 PROGRESS  as above
 *  65 RESULT    as above
 *  66 ERROR     {"reason": "OutOfMemory", "message": "for people, a sentence", "traceback": "…"}
 *               A request that failed; the trainer goes on. reason is CamelCase; reserved are
 *               Unsupported, Invalid and Cancelled. message at most 4 KiB, traceback at
 *               most 64 KiB (cut beyond).
 *
 * Seeds are decimal strings of 64 bits without sign. Everything random must follow from the seed,
 * so that a run can be repeated. Losses are means over examples; null stands for a number that is
 * not known.
 *
 * What follows is the codec: it does no input or output. One thread. */
/* clang-format on */
#ifndef FL_WORKLOADS_TRAINER_PROTOCOL_H
#define FL_WORKLOADS_TRAINER_PROTOCOL_H

#include "lib/json.h"

#define FL_TRAINER_FD          3
#define FL_TRAINER_VERSION     1
#define FL_TRAINER_HEADER_SIZE ((size_t)24)
#define FL_TRAINER_HEAD_MAX    ((size_t)1 << 20)
#define FL_TRAINER_BODY_MAX    ((uint64_t)8 << 30)

enum fl_frame_type {
    FL_FRAME_HELLO = 1,
    FL_FRAME_INIT,
    FL_FRAME_FIT,
    FL_FRAME_EVALUATE,
    FL_FRAME_EXPORT,
    FL_FRAME_CANCEL,
    FL_FRAME_STOP,
    FL_FRAME_LOAD,
    FL_FRAME_PREDICT,
    FL_FRAME_LEARNER,
    FL_FRAME_PROGRESS = 64,
    FL_FRAME_RESULT,
    FL_FRAME_ERROR,
};
enum { FL_FRAME_DESCRIPTOR = 1, FL_FRAME_SKIPPABLE = 2 };

/* "FIT"; NULL for an unknown type. */
const char *fl_frame_type_name(unsigned type);

struct fl_frame {
    unsigned type, flags;
    uint32_t id;
    json_t *head; /* an object */
    void *body;   /* of the socket; NULL where there is none, or a descriptor */
    uint64_t body_size;
    int fd; /* of the body; -1: none */
};
/* Frees head and body, closes the descriptor. */
void fl_frame_finish(struct fl_frame *frame);

void fl_frame_header(const struct fl_frame *frame, size_t head_size,
                     unsigned char out[FL_TRAINER_HEADER_SIZE]);

/* Reading: ask where the next bytes go, put them there, tell how many came. Never takes up more
 * than the bounds say; a body that is not there yet costs address space only. */
struct fl_frame_reader;
struct fl_frame_reader *fl_frame_reader_create(uint64_t body_max);
void fl_frame_reader_destroy(struct fl_frame_reader *reader);
FL_DEFINE_CLEANUP(struct fl_frame_reader, fl_frame_reader_destroy)
/* Room for the bytes that belong to the frame under way, at least one. */
void *fl_frame_reader_room(struct fl_frame_reader *reader, size_t *ret_size);
/* Takes `len` bytes that were put there, and the descriptor that came with them (-1: none; it is
 * the reader's then). 1: *ret_frame is whole (the caller's; frames to skip are skipped); 0: more is
 * needed. INVALID: what came breaks the protocol; the reader is of no use any more. */
int fl_frame_reader_got(struct fl_frame_reader *reader, size_t len, int fd,
                        struct fl_frame *ret_frame, struct fl_error *err);
/* Whether a frame has begun and is not whole. */
bool fl_frame_reader_is_within(const struct fl_frame_reader *reader);

#endif
