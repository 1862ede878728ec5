/* What the parts of the CEL implementation share; nobody else includes this.
 *
 * cel_lex and cel_parse make a tree of nodes in the program's arena; cel_check resolves names and
 * functions; cel_eval walks the tree; cel_ops, cel_convert and cel_lib_* are the operators and
 * functions. Values are small and copied; texts, lists and maps lend from the JSON bound to the
 * variables, from the program, or from the arena of the evaluation. */
#ifndef FL_API_CEL_INTERNAL_H
#define FL_API_CEL_INTERNAL_H

#include "api/cel.h"
#include "api/schema.h"

enum cel_kind {
    CEL_ERROR,
    CEL_NULL,
    CEL_BOOL,
    CEL_INT,
    CEL_UINT,
    CEL_DOUBLE,
    CEL_STRING,
    CEL_BYTES,
    CEL_LIST,
    CEL_MAP,
    CEL_TIMESTAMP,
    CEL_DURATION,
    CEL_TYPE,
    CEL_OPTIONAL,
    CEL_QUANTITY,
    CEL_URL,
    CEL_IP,
    CEL_CIDR,
    CEL_FORMAT,
    CEL_DYN,    /* a type that is not known before it runs; never of a value */
    CEL_STRUCT, /* a type: an object whose fields the schema names; its values are maps */
};

struct cel_value;
struct cel_pair;
struct cel_format;
struct fl_schema_pattern;

/* Integer part of a decimal in units of 10^-9, as fine as a quantity gets. */
struct cel_quantity {
    __int128 nano;
};

struct cel_url {
    const char *scheme, *host, *hostname, *port, *path, *query;
};

struct cel_net {
    unsigned char bytes[16];
    uint8_t size;   /* 4 or 16 */
    uint8_t prefix; /* of a CIDR */
};

struct cel_value {
    enum cel_kind kind;
    bool lent; /* a list or map that is `json`, not `items` or `pairs` */
    union {
        bool boolean;
        int64_t integer; /* of a duration: nanoseconds */
        uint64_t uinteger;
        double real;
        struct {
            const char *data;
            size_t len;
        } text; /* string, bytes, a type's name, an error's message */
        struct {
            int64_t seconds;
            int32_t nanos;
            int32_t offset_minutes; /* as it was written; for its text only */
        } time;
        struct {
            union {
                const json_t *json;
                const struct cel_value *items;
                const struct cel_pair *pairs;
            };
            size_t count;
        } many;
        const struct cel_value *inner; /* optional: NULL is none */
        const struct cel_quantity *quantity;
        const struct cel_url *url;
        const struct cel_net *net;
        const struct cel_format *format;
    };
    const struct fl_schema_node *node; /* of a list or map: what the schema says */
};

struct cel_pair {
    struct cel_value key, value;
};

/* The tree */

enum cel_op {
    CEL_LITERAL,
    CEL_VARIABLE, /* `slot` */
    CEL_NAME,     /* not resolved yet; becomes a variable or a literal */
    CEL_SELECT,   /* args[0].name */
    CEL_HAS,      /* has(args[0].name) */
    CEL_INDEX,    /* args[0][args[1]] */
    CEL_CALL,
    CEL_MAKE_LIST,
    CEL_MAKE_MAP, /* args: key, value, key, value … */
    CEL_AND,      /* any number of args */
    CEL_OR,
    CEL_TERNARY,
    CEL_NOT,
    CEL_NEGATE,
    CEL_BINARY, /* `binary` */
    CEL_MACRO,  /* args: range, body, then filter where there is one */
};

enum cel_binary {
    CEL_ADD,
    CEL_SUBTRACT,
    CEL_MULTIPLY,
    CEL_DIVIDE,
    CEL_MODULO,
    CEL_EQUAL,
    CEL_NOT_EQUAL,
    CEL_LESS,
    CEL_LESS_EQUAL,
    CEL_GREATER,
    CEL_GREATER_EQUAL,
    CEL_IN,
};

enum cel_macro {
    CEL_ALL,
    CEL_EXISTS,
    CEL_EXISTS_ONE,
    CEL_TRANSFORM_LIST, /* map and filter too */
    CEL_TRANSFORM_MAP,
    CEL_TRANSFORM_MAP_ENTRY,
    CEL_OPT_MAP,
    CEL_OPT_FLAT_MAP,
};

struct cel_eval;
typedef struct cel_value cel_function_fn(struct cel_eval *eval, const struct cel_value *args,
                                         size_t count);

/* The signature is a list of overloads, "ss>b|ssi>b": a letter for each argument (the receiver
 * first) and one for the result. The letters are explained in cel_types.c. */
struct cel_function {
    const char *name;
    bool member;
    const char *signature;
    cel_function_fn *fn;
};

struct cel_node {
    enum cel_op op;
    union {
        enum cel_binary binary;
        enum cel_macro macro;
    };
    bool optional;     /* `.?name`, `[?key]` */
    bool member;       /* a call with a receiver, args[0] */
    bool filters;      /* of a macro: whether args[2] is there */
    bool leading_dot;  /* `.name`: never a macro's variable */
    uint8_t variables; /* of a macro: how many */
    uint16_t depth;
    uint32_t position; /* byte in the text */
    uint32_t slot;     /* of a variable, or the first of a macro's */
    uint32_t count;
    struct cel_node **args;
    bool *optional_args; /* of a list or map literal: which were `?element`; NULL: none */
    const char *name;
    const char *names[2]; /* a macro's variables */
    struct cel_value literal;
    const struct cel_function *function;
    const struct fl_schema_pattern *regex; /* of a call whose pattern is a literal */
};

struct fl_cel {
    struct fl_arena *arena;
    const char *text;
    struct cel_node *root;
    const char *const *variables;
    bool *used; /* by variable */
    size_t variable_count, slot_count;
    enum cel_kind result; /* CEL_DYN where it is not known before it runs */
};

#define CEL_MAX_BYTES   ((size_t)16 * 1024)
#define CEL_MAX_DEPTH   200u /* of the tree, so of the evaluator's recursion */
#define CEL_MAX_NESTING 100u /* of the parser's recursion */

/* Lexer */

enum cel_token_type {
    CEL_T_END,
    CEL_T_NAME,
    CEL_T_INT,
    CEL_T_UINT,
    CEL_T_DOUBLE,
    CEL_T_STRING,
    CEL_T_BYTES,
    CEL_T_PUNCTUATION, /* `text` is it: "(", "<=", "&&" … */
};

struct cel_token {
    enum cel_token_type type;
    uint32_t position;
    const char *text; /* of a name or a string: in the arena */
    size_t len;
    union {
        uint64_t uinteger; /* of an int: its magnitude */
        double real;
    };
};

struct cel_lexer {
    struct fl_arena *arena;
    const char *text;
    size_t len, at;
};

int fl_cel_lex(struct cel_lexer *lexer, struct cel_token *ret_token, struct fl_error *err);
/* "line:column: message", BAD_REQUEST. */
int fl_cel_syntax_error(const char *text, size_t position, struct fl_error *err, const char *fmt,
                        ...) __attribute__((format(printf, 4, 5)));

int fl_cel_parse(struct fl_cel *program, size_t len, struct fl_error *err);
int fl_cel_check(struct fl_cel *program, const struct fl_cel_options *options,
                 struct fl_error *err);

/* Types, as far as they are known before an expression runs. They live in the checker's arena. */

struct cel_type {
    enum cel_kind kind;
    const struct cel_type *inner;      /* of a list's elements, a map's values, an optional */
    const struct cel_type *key;        /* of a map */
    const struct fl_schema_node *node; /* of a struct; of a list or map that is not read yet */
};

extern const struct cel_type fl_cel_dyn;
const struct cel_type *fl_cel_type_basic(enum cel_kind kind);
const struct cel_type *fl_cel_type_of_node(struct fl_arena *arena,
                                           const struct fl_schema_node *node);
const struct cel_type *fl_cel_type_make(struct fl_arena *arena, enum cel_kind kind,
                                        const struct cel_type *inner, const struct cel_type *key);
bool fl_cel_type_fits(const struct cel_type *a, const struct cel_type *b);
/* What both are: dyn where one is. */
const struct cel_type *fl_cel_type_join(const struct cel_type *a, const struct cel_type *b);
const char *fl_cel_type_text(struct fl_arena *arena, const struct cel_type *type);
/* The result of the overload that takes these arguments, or NULL. */
const struct cel_type *fl_cel_type_call(struct fl_arena *arena, const char *signature,
                                        const struct cel_type *const *args, size_t count);

/* Evaluation */

struct cel_eval {
    const struct fl_cel *program;
    struct fl_arena *arena;
    struct cel_value *slots;
    const struct cel_node *call; /* the one being made, for its regex */
    uint64_t cost, limit;
    bool exceeded;
};

/* Counts; false once the limit is passed. */
static inline bool fl_cel_charge(struct cel_eval *eval, uint64_t cost)
{
    eval->cost += cost;
    if (eval->cost > eval->limit)
        eval->exceeded = true;
    return !eval->exceeded;
}

struct cel_value fl_cel_evaluate(struct cel_eval *eval, const struct cel_node *node);

struct cel_value fl_cel_error(struct cel_eval *eval, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
struct cel_value fl_cel_no_overload(void);
struct cel_value fl_cel_too_costly(void);

static inline struct cel_value cel_null(void)
{
    return (struct cel_value){.kind = CEL_NULL};
}

static inline struct cel_value cel_bool(bool value)
{
    return (struct cel_value){.kind = CEL_BOOL, .boolean = value};
}

static inline struct cel_value cel_int(int64_t value)
{
    return (struct cel_value){.kind = CEL_INT, .integer = value};
}

static inline struct cel_value cel_uint(uint64_t value)
{
    return (struct cel_value){.kind = CEL_UINT, .uinteger = value};
}

static inline struct cel_value cel_double(double value)
{
    return (struct cel_value){.kind = CEL_DOUBLE, .real = value};
}

static inline struct cel_value cel_text(enum cel_kind kind, const char *data, size_t len)
{
    return (struct cel_value){.kind = kind, .text = {data, len}};
}

static inline struct cel_value cel_string(const char *data, size_t len)
{
    return cel_text(CEL_STRING, data, len);
}

struct cel_value fl_cel_cstring(const char *text);

static inline struct cel_value cel_duration(int64_t nanoseconds)
{
    return (struct cel_value){.kind = CEL_DURATION, .integer = nanoseconds};
}

static inline struct cel_value cel_list(const struct cel_value *items, size_t count)
{
    return (struct cel_value){.kind = CEL_LIST, .many = {{.items = items}, count}};
}

static inline bool cel_is(const struct cel_value *value, enum cel_kind kind)
{
    return value->kind == kind;
}

static inline bool cel_is_number(const struct cel_value *value)
{
    return value->kind == CEL_INT || value->kind == CEL_UINT || value->kind == CEL_DOUBLE;
}

/* cel_value */

struct cel_value fl_cel_from_json(struct cel_eval *eval, const json_t *json,
                                  const struct fl_schema_node *node);
const char *fl_cel_type_name(const struct cel_value *value);
struct cel_value fl_cel_item(struct cel_eval *eval, const struct cel_value *list, size_t index);
/* A map's value by any key; false where there is none. */
bool fl_cel_find(struct cel_eval *eval, const struct cel_value *map, const struct cel_value *key,
                 struct cel_value *ret_value);
/* By a field's name as an expression writes it (`__dot__` …). */
bool fl_cel_field(struct cel_eval *eval, const struct cel_value *map, const char *name,
                  struct cel_value *ret_value);
/* The property that a name in an expression stands for; false where no property can have it. */
#define FL_CEL_NAME_MAX 256
bool fl_cel_unescape(const char *name, char out[FL_CEL_NAME_MAX]);
bool fl_cel_is_reserved(const char *name);
/* The pairs of any map, in the arena where it lends from JSON. */
const struct cel_pair *fl_cel_pairs(struct cel_eval *eval, const struct cel_value *map);
struct cel_value fl_cel_optional(struct cel_eval *eval, const struct cel_value *inner);
char *fl_cel_strdup(struct cel_eval *eval, const struct cel_value *text); /* NUL-terminated */

/* A list that grows in the arena. */
struct cel_items {
    struct cel_value *items;
    size_t count, cap;
};
void fl_cel_push(struct cel_eval *eval, struct cel_items *list, const struct cel_value *value);

/* cel_ops */

struct cel_value fl_cel_binary(struct cel_eval *eval, enum cel_binary op, const struct cel_value *a,
                               const struct cel_value *b);
struct cel_value fl_cel_negate(struct cel_eval *eval, const struct cel_value *a);
bool fl_cel_equal(struct cel_eval *eval, const struct cel_value *a, const struct cel_value *b);
/* Order of two values: false where they have none, with *ret_error set. */
bool fl_cel_compare(struct cel_eval *eval, const struct cel_value *a, const struct cel_value *b,
                    int *ret_order, struct cel_value *ret_error);
bool fl_cel_contains(struct cel_eval *eval, const struct cel_value *list,
                     const struct cel_value *value);

/* indexOf and lastIndexOf of a list. */
struct cel_value fl_cel_list_index(struct cel_eval *eval, const struct cel_value *list,
                                   const struct cel_value *value, bool last);

/* cel_lists: lists whose schema makes them sets or maps */

bool fl_cel_keyed_equal(struct cel_eval *eval, const struct cel_value *a,
                        const struct cel_value *b);
struct cel_value fl_cel_keyed_add(struct cel_eval *eval, const struct cel_value *a,
                                  const struct cel_value *b);

/* cel_time */

#define CEL_NANOS INT64_C(1000000000)
bool fl_cel_duration_parse(const char *text, size_t len, int64_t *ret_nanoseconds);
bool fl_cel_timestamp_parse(const char *text, size_t len, struct cel_value *ret_value);
bool fl_cel_timestamp_make(int64_t seconds, int64_t nanos, int offset_minutes,
                           struct cel_value *ret_value);
struct cel_value fl_cel_duration_text(struct cel_eval *eval, int64_t nanoseconds);
struct cel_value fl_cel_timestamp_text(struct cel_eval *eval, const struct cel_value *time);

/* cel_convert */

struct cel_value fl_cel_to_string(struct cel_eval *eval, const struct cel_value *value);
/* cel_regex */

/* NULL where it is no pattern; what is wrong is the arena's. */
const struct fl_schema_pattern *fl_cel_regex_compile(struct fl_arena *arena,
                                                     const struct cel_value *pattern,
                                                     const char **ret_problem);

/* cel_functions */

bool fl_cel_is_function(const char *name, bool member);
/* The function and its result's type for arguments of these types. 1: found; 0: the name is no
 * function's; < 0: not with these arguments. */
int fl_cel_find_function(struct fl_arena *arena, const char *name, bool member,
                         const struct cel_type *const *types, size_t count,
                         const struct cel_function **ret_function,
                         const struct cel_type **ret_type);

/* The macro that a call with a receiver is, by its name and number of arguments; NULL for none. */
struct cel_macro_shape {
    const char *name;
    uint8_t args, variables;
    enum cel_macro macro;
    bool filters;
};
const struct cel_macro_shape *fl_cel_find_macro(const struct cel_node *call);

/* Functions; NULL-name ended tables. */

extern const struct cel_function fl_cel_standard_functions[];
extern const struct cel_function fl_cel_time_functions[];
extern const struct cel_function fl_cel_string_functions[];
extern const struct cel_function fl_cel_format_functions[];
extern const struct cel_function fl_cel_regex_functions[];
extern const struct cel_function fl_cel_list_functions[];
extern const struct cel_function fl_cel_optional_functions[];
extern const struct cel_function fl_cel_quantity_functions[];
extern const struct cel_function fl_cel_url_functions[];
extern const struct cel_function fl_cel_net_functions[];
extern const struct cel_function fl_cel_named_format_functions[];

#endif
