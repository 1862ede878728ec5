#include "api/cel_internal.h"
#include "lib/str.h"

#include <arpa/inet.h>

/* ip() and cidr(): IPv4 and IPv6, without zones and without IPv4 mapped into IPv6. */

static const char *parse_ip(const char *text, struct cel_net *net)
{
    static const unsigned char mapped[12] = {[10] = 0xFF, [11] = 0xFF};

    if (strchr(text, '%'))
        return "IP address with zone value is not allowed";
    net->size = strchr(text, ':') ? 16 : 4;
    net->prefix = (uint8_t)(net->size * 8);
    if (inet_pton(net->size == 4 ? AF_INET : AF_INET6, text, net->bytes) != 1)
        return "unable to parse IP";
    if (net->size == 16 && !memcmp(net->bytes, mapped, sizeof(mapped)))
        return "IPv4-mapped IPv6 address is not allowed";
    return NULL;
}

static const char *parse_cidr(struct cel_eval *eval, const char *text, struct cel_net *net)
{
    const char *slash = strchr(text, '/');
    const char *wrong;
    int64_t prefix;

    if (!slash || strchr(text, '%'))
        return "network address parse error during conversion from string";
    wrong = parse_ip(fl_arena_strndup(eval->arena, text, (size_t)(slash - text)), net);
    if (wrong)
        return wrong;
    if ((slash[1] == '0' && slash[2]) || !fl_str_to_int64(slash + 1, 0, net->size * 8, &prefix))
        return "prefix length out of range";
    net->prefix = (uint8_t)prefix;
    return NULL;
}

static struct cel_value make(struct cel_eval *eval, enum cel_kind kind, const struct cel_net *net)
{
    struct cel_net *copy = fl_new(eval->arena, struct cel_net);

    *copy = *net;
    return (struct cel_value){.kind = kind, .net = copy};
}

/* The bits behind the prefix become 0. */
static struct cel_net mask(const struct cel_net *net)
{
    struct cel_net masked = *net;

    for (int bit = net->prefix; bit < net->size * 8; bit++)
        masked.bytes[bit / 8] = (unsigned char)(masked.bytes[bit / 8] & ~(0x80 >> bit % 8));
    return masked;
}

static struct cel_value ip(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    struct cel_net net = {0};
    const char *text, *wrong;

    (void)count;
    if (args[0].kind == CEL_CIDR) {
        net = *args[0].net;
        net.prefix = (uint8_t)(net.size * 8);
        return make(eval, CEL_IP, &net);
    }
    if (args[0].kind != CEL_STRING)
        return fl_cel_no_overload();
    fl_cel_charge(eval, args[0].text.len / 10);
    text = fl_cel_strdup(eval, &args[0]);
    wrong = parse_ip(text, &net);
    if (wrong)
        return fl_cel_error(eval,
                            "IP Address \"%.64s\" parse error during conversion from string:"
                            " %s",
                            text, wrong);
    return make(eval, CEL_IP, &net);
}

static struct cel_value is_ip(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    struct cel_net net = {0};

    (void)count;
    if (args[0].kind != CEL_STRING)
        return fl_cel_no_overload();
    fl_cel_charge(eval, args[0].text.len / 10);
    return cel_bool(!parse_ip(fl_cel_strdup(eval, &args[0]), &net));
}

static struct cel_value is_canonical(struct cel_eval *eval, const struct cel_value *args,
                                     size_t count)
{
    struct cel_value address = ip(eval, args, count), text;

    if (address.kind == CEL_ERROR || args[0].kind != CEL_STRING)
        return address.kind == CEL_ERROR ? address : fl_cel_no_overload();
    text = fl_cel_to_string(eval, &address);
    return cel_bool(fl_cel_equal(eval, &text, &args[0]));
}

static struct cel_value family(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    (void)eval;
    (void)count;
    if (args[0].kind != CEL_IP)
        return fl_cel_no_overload();
    return cel_int(args[0].net->size == 4 ? 4 : 6);
}

static bool is_unspecified(const struct cel_net *net)
{
    static const unsigned char zero[16];

    return !memcmp(net->bytes, zero, net->size);
}

static bool is_loopback(const struct cel_net *net)
{
    static const unsigned char one[16] = {[15] = 1};

    return net->size == 4 ? net->bytes[0] == 127 : !memcmp(net->bytes, one, sizeof(one));
}

static bool is_multicast(const struct cel_net *net)
{
    return net->size == 4 ? (net->bytes[0] & 0xF0) == 0xE0 : net->bytes[0] == 0xFF;
}

static bool is_link_local_multicast(const struct cel_net *net)
{
    if (net->size == 4)
        return net->bytes[0] == 224 && net->bytes[1] == 0 && net->bytes[2] == 0;
    return net->bytes[0] == 0xFF && (net->bytes[1] & 0x0F) == 2;
}

static bool is_link_local_unicast(const struct cel_net *net)
{
    if (net->size == 4)
        return net->bytes[0] == 169 && net->bytes[1] == 254;
    return net->bytes[0] == 0xFE && (net->bytes[1] & 0xC0) == 0x80;
}

static bool is_global_unicast(const struct cel_net *net)
{
    static const unsigned char broadcast[4] = {255, 255, 255, 255};

    return !(net->size == 4 && !memcmp(net->bytes, broadcast, 4)) && !is_unspecified(net) &&
           !is_loopback(net) && !is_multicast(net) && !is_link_local_unicast(net);
}

#define PREDICATE(name)                                                                            \
    static struct cel_value call_##name(struct cel_eval *eval, const struct cel_value *args,       \
                                        size_t count)                                              \
    {                                                                                              \
        (void)eval;                                                                                \
        (void)count;                                                                               \
        return args[0].kind == CEL_IP ? cel_bool(name(args[0].net)) : fl_cel_no_overload();        \
    }
PREDICATE(is_unspecified)
PREDICATE(is_loopback)
PREDICATE(is_link_local_multicast)
PREDICATE(is_link_local_unicast)
PREDICATE(is_global_unicast)

static struct cel_value cidr(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    struct cel_net net = {0};
    const char *text, *wrong;

    (void)count;
    if (args[0].kind != CEL_STRING)
        return fl_cel_no_overload();
    fl_cel_charge(eval, args[0].text.len / 10);
    text = fl_cel_strdup(eval, &args[0]);
    wrong = parse_cidr(eval, text, &net);
    if (wrong)
        return fl_cel_error(eval, "network address \"%.64s\": %s", text, wrong);
    return make(eval, CEL_CIDR, &net);
}

static struct cel_value is_cidr(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    struct cel_net net = {0};

    (void)count;
    if (args[0].kind != CEL_STRING)
        return fl_cel_no_overload();
    fl_cel_charge(eval, args[0].text.len / 10);
    return cel_bool(!parse_cidr(eval, fl_cel_strdup(eval, &args[0]), &net));
}

static bool within(const struct cel_net *outer, const struct cel_net *inner)
{
    struct cel_net a = mask(outer), b = *inner;

    if (a.size != b.size || a.prefix > inner->prefix)
        return false;
    b.prefix = a.prefix;
    b = mask(&b);
    return !memcmp(a.bytes, b.bytes, a.size);
}

/* args[1] as an address (or network), be it one or its text. */
static struct cel_value contains(struct cel_eval *eval, const struct cel_value *args,
                                 enum cel_kind kind)
{
    struct cel_value inner = args[1];

    if (args[0].kind != CEL_CIDR)
        return fl_cel_no_overload();
    if (inner.kind == CEL_STRING)
        inner = kind == CEL_IP ? ip(eval, &args[1], 1) : cidr(eval, &args[1], 1);
    if (inner.kind == CEL_ERROR)
        return inner;
    return inner.kind == kind ? cel_bool(within(args[0].net, inner.net)) : fl_cel_no_overload();
}

static struct cel_value contains_ip(struct cel_eval *eval, const struct cel_value *args,
                                    size_t count)
{
    (void)count;
    return contains(eval, args, CEL_IP);
}

static struct cel_value contains_cidr(struct cel_eval *eval, const struct cel_value *args,
                                      size_t count)
{
    (void)count;
    return contains(eval, args, CEL_CIDR);
}

static struct cel_value masked(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    struct cel_net net;

    (void)count;
    if (args[0].kind != CEL_CIDR)
        return fl_cel_no_overload();
    net = mask(args[0].net);
    return make(eval, CEL_CIDR, &net);
}

static struct cel_value prefix_length(struct cel_eval *eval, const struct cel_value *args,
                                      size_t count)
{
    (void)eval;
    (void)count;
    return args[0].kind == CEL_CIDR ? cel_int(args[0].net->prefix) : fl_cel_no_overload();
}

static struct cel_value ip_of_cidr(struct cel_eval *eval, const struct cel_value *args,
                                   size_t count)
{
    return args[0].kind == CEL_CIDR ? ip(eval, args, count) : fl_cel_no_overload();
}

const struct cel_function fl_cel_net_functions[] = {
    {"ip", false, "s>p", ip},
    {"ip", true, "c>p", ip_of_cidr},
    {"isIP", false, "s>b", is_ip},
    {"ip.isCanonical", false, "s>b", is_canonical},
    {"family", true, "p>i", family},
    {"isUnspecified", true, "p>b", call_is_unspecified},
    {"isLoopback", true, "p>b", call_is_loopback},
    {"isLinkLocalMulticast", true, "p>b", call_is_link_local_multicast},
    {"isLinkLocalUnicast", true, "p>b", call_is_link_local_unicast},
    {"isGlobalUnicast", true, "p>b", call_is_global_unicast},
    {"cidr", false, "s>c", cidr},
    {"isCIDR", false, "s>b", is_cidr},
    {"containsIP", true, "cs>b|cp>b", contains_ip},
    {"containsCIDR", true, "cs>b|cc>b", contains_cidr},
    {"masked", true, "c>c", masked},
    {"prefixLength", true, "c>i", prefix_length},
    {0},
};
