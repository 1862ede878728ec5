/* Ports: no two instances ever get the same, whether or not their programs listen yet. What others
 * on the machine use is found out by binding. */
#include "reconcilers/workload/local/internal.h"

#include "lib/net.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define KEY_SIZE 16

static const char *key_of(char out[KEY_SIZE], bool udp, int64_t port)
{
    (void)snprintf(out, KEY_SIZE, "%s/%" PRId64, udp ? "udp" : "tcp", port);
    return out;
}

static struct instance *holder_of(struct fl_local *local, bool udp, int64_t port)
{
    char key[KEY_SIZE];

    return fl_map_get(local->ports, key_of(key, udp, port));
}

void ports_hold(struct instance *instance, const struct record *record, bool chosen_only)
{
    char key[KEY_SIZE];

    for (size_t i = 0; i < record->port_count; i++)
        if (!chosen_only || !record->ports[i].fixed)
            fl_map_put(instance->local->ports,
                       key_of(key, record->ports[i].udp, record->ports[i].port), instance);
}

void ports_release(struct instance *instance, const struct record *record, bool fixed_only)
{
    char key[KEY_SIZE];

    for (size_t i = 0; i < record->port_count; i++) {
        const struct run_port *port = &record->ports[i];

        if ((port->fixed || !fixed_only) &&
            holder_of(instance->local, port->udp, port->port) == instance)
            (void)fl_map_remove(instance->local->ports, key_of(key, port->udp, port->port));
    }
}

static bool is_in_record(const struct record *record, bool udp, int64_t port)
{
    for (size_t i = 0; i < record->port_count; i++)
        if (record->ports[i].port == port && record->ports[i].udp == udp)
            return true;
    return false;
}

static bool is_free(struct instance *instance, const struct record *record,
                    const struct run_port *port, int64_t number, int *ret_errnum)
{
    struct instance *holder = holder_of(instance->local, port->udp, number);

    *ret_errnum = EADDRINUSE;
    return (!holder || holder == instance) && !is_in_record(record, port->udp, number) &&
           fl_net_port_is_free(port->address, number, port->udp, ret_errnum);
}

/* An address that another run of the instance had stays its own where that is possible. */
static int64_t port_before(const struct record *before, const struct run_port *port)
{
    for (size_t i = 0; before && i < before->port_count; i++)
        if (!before->ports[i].fixed && before->ports[i].udp == port->udp &&
            strcmp(before->ports[i].name, port->name) == 0)
            return before->ports[i].port;
    return 0;
}

/* Goes around the range, so that a port that was given back is not given out again at once. */
static int choose(struct instance *instance, const struct record *before,
                  const struct record *record, struct run_port *port, struct fl_error *err)
{
    struct fl_local *local = instance->local;
    int64_t first = local->settings.ports.first, last = local->settings.ports.last;
    int64_t number = port_before(before, port);
    int errnum;

    if (number >= first && number <= last && is_free(instance, record, port, number, &errnum)) {
        port->port = number;
        return 0;
    }
    for (int64_t i = first; i <= last; i++) {
        if (local->next_port < first || local->next_port > last)
            local->next_port = first;
        number = local->next_port++;
        if (!holder_of(local, port->udp, number) &&
            is_free(instance, record, port, number, &errnum)) {
            port->port = number;
            return 0;
        }
    }
    return fl_error_set(err, FL_E_UNAVAILABLE,
                        "no port from %" PRId64 " to %" PRId64 " is free for %s", first, last,
                        port->name);
}

static int take_fixed(struct instance *instance, const struct record *record,
                      const struct run_port *port, struct fl_error *err)
{
    struct instance *holder = holder_of(instance->local, port->udp, port->port);
    int errnum;

    if (is_free(instance, record, port, port->port, &errnum))
        return 0;
    if (holder && holder != instance)
        return fl_error_set(
            err, FL_E_CONFLICT,
            "port %s: %" PRId64 " is taken by instance %" PRId64 " of Workload %s/%s", port->name,
            port->port, holder->index, holder->record.ns, holder->record.name);
    return fl_error_set(err, FL_E_CONFLICT,
                        "port %s: %" PRId64 " on %s cannot be had: %s; free it, or declare another",
                        port->name, port->port, port->address, strerror(errnum));
}

static const char *address_for(const struct fl_local *local, const struct fl_workload_port *spec)
{
    if (spec->expose == FL_WORKLOAD_PORT_EXPOSE_NETWORK)
        return "0.0.0.0";
    return local->settings.address;
}

int ports_take(struct instance *instance, struct fl_arena *arena,
               const struct fl_workload_spec *spec, const struct record *before,
               struct record *record, struct fl_error *err)
{
    for (size_t i = 0; i < spec->ports.count; i++) {
        const struct fl_workload_port *from = &spec->ports.items[i];
        struct run_port port = {
            .name = fl_arena_strdup(arena, from->name),
            .port = from->port,
            .udp = from->protocol == FL_WORKLOAD_PORT_PROTOCOL_UDP,
            .fixed = from->port != 0,
            .address = fl_arena_strdup(arena, address_for(instance->local, from)),
        };
        int r = port.fixed ? take_fixed(instance, record, &port, err)
                           : choose(instance, before, record, &port, err);

        if (r < 0)
            return r;
        record->ports[record->port_count++] = port;
    }
    ports_hold(instance, record, false);
    return 0;
}
