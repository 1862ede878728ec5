#include "cmd/top_layout.h"

#include "lib/str.h"
#include "lib/text.h"
#include "lib/yaml.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NOW "2026-01-02T03:05:00Z"

/* A project of two tiers in its fourth round, one of whose aggregators does not come up. */
static const char project[] =
    "metadata: {name: fashion, namespace: default, uid: p1, generation: 1}\n"
    "spec: {training: {rounds: 10}}\n"
    "status:\n"
    "  conditions:\n"
    "  - {type: Ready, status: 'False', reason: Training, message: round 4 of 10}\n"
    "  rounds: {completed: 3, total: 10}\n"
    "  metrics:\n"
    "    last: {round: 3, values: {accuracy: '0.8125', loss: '0.4'}}\n"
    "    best: {round: 2, values: {accuracy: '0.85'}}\n"
    "  learners: {ready: 3, desired: 4}\n"
    "  tiers: [{name: root, ready: 1, desired: 1}, {name: edge, ready: 1, desired: 2}]\n";

static const char *const rounds[] = {
    "metadata: {name: r1, namespace: default, uid: r1}\n"
    "spec: {project: {name: fashion}, index: 1}\n"
    "status: {index: 1, startTime: '2026-01-02T03:04:10Z', completionTime: "
    "'2026-01-02T03:04:20Z',\n"
    "  conditions: [{type: Ready, status: 'True', reason: Committed}],\n"
    "  metrics: {evaluation: {accuracy: '0.1'}}}\n",
    "metadata: {name: r2, namespace: default, uid: r2}\n"
    "spec: {project: {name: fashion}, index: 2}\n"
    "status: {index: 2, startTime: '2026-01-02T03:04:20Z', completionTime: "
    "'2026-01-02T03:04:34Z',\n"
    "  conditions: [{type: Ready, status: 'True', reason: Committed}],\n"
    "  metrics: {evaluation: {accuracy: '0.85'}}}\n",
    "metadata: {name: r3, namespace: default, uid: r3}\n"
    "spec: {project: {name: fashion}, index: 3}\n"
    "status: {index: 3, startTime: '2026-01-02T03:04:34Z', completionTime: "
    "'2026-01-02T03:04:46Z',\n"
    "  conditions: [{type: Ready, status: 'True', reason: Committed}],\n"
    "  metrics: {evaluation: {accuracy: '0.8125'}}}\n",
    "metadata: {name: r4, namespace: default, uid: r4}\n"
    "spec: {project: {name: fashion}, index: 4}\n"
    "status: {index: 4, attempt: 2, startTime: '2026-01-02T03:04:48Z',\n"
    "  participants: {summary: 1/4},\n"
    "  conditions: [{type: Ready, status: 'False', reason: Training}]}\n",
    /* of another project: none of its business */
    "metadata: {name: x9, namespace: default, uid: x9}\n"
    "spec: {project: {name: fashion-2}, index: 9}\n"
    "status: {index: 9, conditions: [{type: Ready, status: 'False', reason: Selecting}]}\n",
};

static const char *const workloads[] = {
    "metadata: {name: fashion-root-1, namespace: default, uid: w1,\n"
    "  labels: {flops.dev/role: root}, ownerReferences: [{uid: p1, controller: true}]}\n"
    "spec: {role: Aggregator}\n"
    "status: {replicas: {summary: 1/1, ready: 1, desired: 1},\n"
    "  conditions: [{type: Ready, status: 'True', reason: Running}],\n"
    "  instances: [{index: 0, state: Running, ready: true, node: north-1}]}\n",
    "metadata: {name: fashion-edge-south-2, namespace: default, uid: w2,\n"
    "  labels: {flops.dev/role: edge-south}, ownerReferences: [{uid: p1, controller: true}]}\n"
    "spec: {role: Aggregator}\n"
    "status: {replicas: {summary: 0/1, ready: 0, desired: 1, restarts: 3},\n"
    "  conditions: [{type: Ready, status: 'False', reason: Restarting}],\n"
    "  instances: [{index: 0, state: Waiting, ready: false, node: south-1,\n"
    "    lastExit: {code: 1, logTail: \"it began\\nport 30115 is taken\\n\"}}]}\n",
    "metadata: {name: hello, namespace: default, uid: w3}\n"
    "spec: {role: Service}\n"
    "status: {replicas: {summary: 2/2, ready: 2, desired: 2},\n"
    "  conditions: [{type: Ready, status: 'True', reason: Running}]}\n",
};

static const char server[] =
    "metadata: {name: fashion, namespace: default, uid: s1}\n"
    "spec: {model: {project: {name: fashion}}}\n"
    "status:\n"
    "  url: http://127.0.0.1:30013\n"
    "  replicas: {summary: 1/2, ready: 1, desired: 2}\n"
    "  model: {round: 2}\n"
    "  traffic: [{role: Stable, round: 2, percent: 80}, {role: Canary, round: 3, percent: 20}]\n"
    "  conditions: [{type: Ready, status: 'False', reason: RollingOut}]\n";

static const json_t *put(struct fl_top *top, enum fl_top_kind kind, const char *yaml)
{
    struct fl_error err = {0};
    FL_JSON object = NULL;

    if (fl_yaml_parse(yaml, strlen(yaml), NULL, &object, &err) < 0)
        fail_msg("%s", err.msg);
    return fl_top_put(top, kind, object);
}

static struct fl_top *world(void)
{
    struct fl_top *top = fl_top_create();

    for (int kind = 0; kind < FL_TOP_KINDS; kind++)
        fl_top_set_state(top, (enum fl_top_kind)kind, FL_WATCHER_LIVE, NULL);
    (void)put(top, FL_TOP_PROJECTS, project);
    for (size_t i = 0; i < FL_COUNT_OF(rounds); i++)
        (void)put(top, FL_TOP_ROUNDS, rounds[i]);
    for (size_t i = 0; i < FL_COUNT_OF(workloads); i++)
        (void)put(top, FL_TOP_WORKLOADS, workloads[i]);
    (void)put(top, FL_TOP_SERVERS, server);
    return top;
}

static struct fl_top_view view_of(size_t width)
{
    struct fl_top_view view = {.width = width, .utf8 = true, .where = "default at https://there"};

    assert_true(fl_time_parse(NOW, &view.now_us));
    return view;
}

static void assert_picture(const struct fl_top *top, const struct fl_top_view *view,
                           const char *expected)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf out = {0};

    fl_top_header(top, view, &out);
    fl_top_body(top, view, &out);
    assert_string_equal(fl_buf_text(&out), expected);
}

static void a_picture_of_80_columns(void **state)
{
    FL_CLEANUP(fl_top_destroyp) struct fl_top *top = world();
    const struct fl_top_view view = view_of(80);

    (void)state;
    assert_picture(
        top, &view,
        "flops top  default at https://there                                    connected\n"
        "1 project, 1/2 aggregators, 2/2 services\n"
        "\n"
        "fashion  round 3/10                                                     Training\n"
        "  ████████████░░░░░░░░░░░░░░░░░░░░░░░░░░░░ 30 %  5 rounds/min, 84 s left\n"
        "  round 4: Training, 1/4 updates, for 12 s, attempt 2\n"
        "  accuracy 0.8125, best 0.85 (round 2)  ▁██\n"
        "  root       1/1 ●\n"
        "  edge       1/2 ●○\n"
        "  learners   3/4 ●●●○\n"
        "  ! edge-south 0/1 Restarting  south-1  3 restarts  exit 1: port 30115 is taken\n"
        "\n"
        "fashion  serves round 2                                               RollingOut\n"
        "  servers    1/2 ●○  http://127.0.0.1:30013  canary: round 3 has 20 %\n"
        "\n"
        "    hello 2/2 Running\n");
}

static void a_picture_of_40_columns(void **state)
{
    FL_CLEANUP(fl_top_destroyp) struct fl_top *top = world();
    struct fl_top_view view = view_of(40);

    (void)state;
    view.workloads = true;
    assert_picture(top, &view,
                   "flops top                      connected\n"
                   "1 project, 1/2 aggregators, 2/2 services\n"
                   "\n"
                   "fashion  round 3/10             Training\n"
                   "  ██████░░░░░░░░░░░░░░ 30 %  5 rounds/m…\n"
                   "  round 4: Training, 1/4 updates, for 1…\n"
                   "  accuracy 0.8125, best 0.85 (round 2)\n"
                   "  root       1/1 ●\n"
                   "  edge       1/2 ●○\n"
                   "  learners   3/4 ●●●○\n"
                   "  ! edge-south 0/1 Restarting  south-1 …\n"
                   "    root       1/1 Running  north-1\n"
                   "\n"
                   "fashion  serves round 2       RollingOut\n"
                   "  servers    1/2 ●○  http://127.0.0.1:3…\n"
                   "\n"
                   "    hello 2/2 Running\n");
}

/* For a pipe, in a locale without UTF-8. */
static void plain_lines_without_end(void **state)
{
    FL_CLEANUP(fl_top_destroyp) struct fl_top *top = world();
    struct fl_top_view view = view_of(0);

    (void)state;
    view.utf8 = false;
    view.with_namespace = true;
    assert_picture(
        top, &view,
        "flops top  default at https://there  connected\n"
        "1 project, 1/2 aggregators, 2/2 services\n"
        "\n"
        "default/fashion  round 3/10  Training\n"
        "  ############............................ 30 %  5 rounds/min, 84 s left\n"
        "  round 4: Training, 1/4 updates, for 12 s, attempt 2\n"
        "  accuracy 0.8125, best 0.85 (round 2)  _##\n"
        "  root       1/1 *\n"
        "  edge       1/2 *o\n"
        "  learners   3/4 ***o\n"
        "  ! edge-south 0/1 Restarting  south-1  3 restarts  exit 1: port 30115 is taken\n"
        "\n"
        "default/fashion  serves round 2  RollingOut\n"
        "  servers    1/2 *o  http://127.0.0.1:30013  canary: round 3 has 20 %\n"
        "\n"
        "    hello 2/2 Running\n");
}

static void a_stalled_project_says_why(void **state)
{
    FL_CLEANUP(fl_top_destroyp) struct fl_top *top = fl_top_create();
    FL_CLEANUP(fl_buf_finish) struct fl_buf out = {0};
    const struct fl_top_view view = view_of(60);

    (void)state;
    (void)put(top, FL_TOP_PROJECTS,
              "metadata: {name: a-project-with-a-rather-long-name, namespace: default, uid: p}\n"
              "spec: {training: {rounds: 3}}\n"
              "status:\n"
              "  conditions:\n"
              "  - {type: Ready, status: 'False', reason: WaitingForLearners,\n"
              "     message: \"no node has data \\e[31mtagged\\e[0m 画像\"}\n"
              "  - {type: Stalled, status: 'True', reason: WaitingForLearners, message: x}\n");
    fl_top_body(top, &view, &out);
    assert_string_equal(fl_buf_text(&out),
                        "a-project-with-a-rather-long…  round 0/3  WaitingForLearners\n"
                        "  ░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░ 0 %\n"
                        "  ! no node has data  [31mtagged [0m 画像\n");
}

static void the_connection_is_told(void **state)
{
    FL_CLEANUP(fl_top_destroyp) struct fl_top *top = fl_top_create();
    const struct fl_top_view view = view_of(60);

    (void)state;
    assert_picture(top, &view,
                   "flops top  default at https://there               connecting\n"
                   "0 projects\n"
                   "\n"
                   "Nothing is declared here yet.\n");
    fl_top_set_state(top, FL_TOP_PROJECTS, FL_WATCHER_LOST, "https://there: refused");
    fl_top_set_state(top, FL_TOP_ROUNDS, FL_WATCHER_LOST, "https://there: refused");
    fl_top_set_state(top, FL_TOP_WORKLOADS, FL_WATCHER_REFUSED, "you may not");
    assert_picture(top, &view,
                   "flops top  default at https://there             reconnecting\n"
                   "! what is below is old: https://there: refused\n"
                   "! workloads are not shown: you may not\n"
                   "0 projects\n"
                   "\n"
                   "Nothing is declared here yet.\n");
}

/* Takes escape sequences out of a line, which tell colours only. */
static void uncolor(const char *text, struct fl_buf *out)
{
    for (; *text; text++) {
        if (*text == '\033')
            text = strchr(text, 'm');
        else
            fl_buf_putc(out, *text);
    }
}

static void colors_change_nothing_else(void **state)
{
    FL_CLEANUP(fl_top_destroyp) struct fl_top *top = world();
    FL_CLEANUP(fl_buf_finish) struct fl_buf colored = {0};
    FL_CLEANUP(fl_buf_finish) struct fl_buf text = {0};
    struct fl_top_view view = view_of(72);

    (void)state;
    view.colors = true;
    fl_top_header(top, &view, &colored);
    fl_top_body(top, &view, &colored);
    uncolor(fl_buf_text(&colored), &text);
    assert_true(text.len < colored.len);
    view.colors = false;
    assert_picture(top, &view, fl_buf_text(&text));
}

static void no_line_is_wider_than_the_screen(void **state)
{
    FL_CLEANUP(fl_top_destroyp) struct fl_top *top = world();

    (void)state;
    (void)put(
        top, FL_TOP_PROJECTS,
        "metadata: {name: x, namespace: default, uid: x}\n"
        "spec: {training: {rounds: 3, bestModel: {metric: 正解率}}}\n"
        "status: {metrics: {last: {values: {正解率: '0.5'}}, best: {values: {正解率: '0.5'}}},\n"
        "  tiers: [{name: 東京の集約サーバー, ready: 1, desired: 30}],\n"
        "  conditions: [{type: Stalled, status: 'True'},\n"
        "    {type: Ready, status: 'False', reason: X, message: 学習者がまだ参加していません}]}\n");
    fl_top_set_state(top, FL_TOP_SERVERS, FL_WATCHER_REFUSED, "参照する権限がありません");
    for (size_t width = 20; width <= 300; width++) {
        const struct fl_top_view view = view_of(width);
        FL_CLEANUP(fl_buf_finish) struct fl_buf out = {0};

        fl_top_header(top, &view, &out);
        fl_top_body(top, &view, &out);
        for (char *line = out.data, *end; (end = strchr(line, '\n')); line = end + 1) {
            *end = '\0';
            if (fl_text_columns(line) > width)
                fail_msg("%zu columns: %s", width, line);
        }
    }
}

static void one_object_in_a_line(void **state)
{
    static const struct {
        enum fl_top_kind kind;
        const char *object, *line;
    } examples[] = {
        {FL_TOP_PROJECTS,
         "metadata: {name: fashion}\n"
         "status: {rounds: {summary: 3/10}, learners: {summary: 4/4},\n"
         "  metrics: {last: {values: {accuracy: '0.8'}}},\n"
         "  conditions: [{type: Ready, status: 'False', reason: Training}]}\n",
         "project fashion: Training, round 3/10, accuracy 0.8, learners 4/4"},
        {FL_TOP_PROJECTS, "metadata: {name: new}\n", "project new: New"},
        {FL_TOP_PROJECTS,
         "metadata: {name: bad, deletionTimestamp: '2026-01-02T03:04:05Z'}\n"
         "status: {conditions: [{type: Ready, status: 'False', reason: Quorum, message: 2 of 4},\n"
         "  {type: Stalled, status: 'True'}]}\n",
         "project bad: Deleting: 2 of 4"},
        {FL_TOP_ROUNDS,
         "metadata: {name: r}\nspec: {index: 3, project: {name: fashion}}\n"
         "status: {participants: {summary: 4/4}, metrics: {evaluation: {accuracy: '0.8'}},\n"
         "  conditions: [{type: Ready, status: 'True', reason: Committed}]}\n",
         "round 3 of fashion: Committed, 4/4 updates, accuracy 0.8"},
        {FL_TOP_WORKLOADS,
         "metadata: {name: w}\nstatus: {replicas: {summary: 1/2},\n"
         "  conditions: [{type: Ready, status: 'False', reason: Starting}]}\n",
         "workload w: Starting, 1/2 ready"},
        {FL_TOP_SERVERS,
         "metadata: {name: s}\nstatus: {replicas: {summary: 1/1}, model: {round: 4}, url: "
         "http://x,\n"
         "  conditions: [{type: Ready, status: 'True', reason: Serving}]}\n",
         "server s: Serving, servers 1/1, round 4, http://x"},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(examples); i++) {
        FL_CLEANUP(fl_top_destroyp) struct fl_top *top = fl_top_create();
        FL_CLEANUP(fl_buf_finish) struct fl_buf line = {0};

        fl_top_line(examples[i].kind, put(top, examples[i].kind, examples[i].object), false, &line);
        assert_string_equal(fl_buf_text(&line), examples[i].line);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_picture_of_80_columns),
        cmocka_unit_test(a_picture_of_40_columns),
        cmocka_unit_test(plain_lines_without_end),
        cmocka_unit_test(a_stalled_project_says_why),
        cmocka_unit_test(the_connection_is_told),
        cmocka_unit_test(colors_change_nothing_else),
        cmocka_unit_test(no_line_is_wider_than_the_screen),
        cmocka_unit_test(one_object_in_a_line),
    };

    return cmocka_run_group_tests_name("top_layout", tests, NULL, NULL);
}
