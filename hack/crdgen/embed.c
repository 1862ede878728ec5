/* api/gen/crds_embedded.[hc]: the definitions as canonical JSON, for a server to install. */
#include "hack/crdgen/crdgen.h"

#define CHUNK 80

void write_embedded_header(const struct model *model, struct fl_buf *buf)
{
    fl_buf_puts(buf, "/* " GENERATED "\n *\n"
                     " * The CustomResourceDefinitions as canonical JSON. */\n"
                     "#ifndef FL_API_GEN_CRDS_EMBEDDED_H\n#define FL_API_GEN_CRDS_EMBEDDED_H\n\n"
                     "#include <stddef.h>\n\n"
                     "struct fl_embedded_crd {\n"
                     "    const char *name; /* \"flprojects.flops.dev\" */\n"
                     "    const char *json;\n"
                     "    size_t len;\n"
                     "};\n\n");
    fl_buf_printf(buf, "#define FL_EMBEDDED_CRD_COUNT %zu\n", model->kind_count);
    fl_buf_puts(buf,
                "extern const struct fl_embedded_crd fl_embedded_crds[FL_EMBEDDED_CRD_COUNT];\n"
                "\n#endif\n");
}

/* Where a line of the literal ends: behind the end of an object, so that a change in one place does
 * not move all lines after it; at the latest after CHUNK bytes, between characters. */
static size_t piece_length(const char *text, size_t len)
{
    size_t piece = 0;

    while (piece < len && piece < CHUNK) {
        piece++;
        if (piece > 1 && text[piece - 1] == ',' && text[piece - 2] == '}')
            return piece;
    }
    while (piece < len && ((unsigned char)text[piece] & 0xC0) == 0x80)
        piece++;
    return piece;
}

static void put_long_string(struct fl_buf *buf, const char *text, size_t len)
{
    while (len > 0) {
        size_t piece = piece_length(text, len);

        fl_buf_puts(buf, "    ");
        put_c_string(buf, text, piece);
        fl_buf_puts(buf, len == piece ? ";\n\n" : "\n");
        text += piece;
        len -= piece;
    }
}

void write_embedded(const struct model *model, struct fl_buf *buf)
{
    fl_buf_puts(buf, "/* " GENERATED " */\n#include \"api/gen/crds_embedded.h\"\n\n");
    for (size_t i = 0; i < model->kind_count; i++) {
        const struct kind *kind = &model->kinds[i];
        const char *json = fl_json_to_string(model->arena, kind->crd);

        fl_buf_printf(buf, "static const char %s_json[] =\n", without_fl(kind->c_name));
        put_long_string(buf, json, strlen(json));
    }
    fl_buf_puts(buf, "const struct fl_embedded_crd fl_embedded_crds[FL_EMBEDDED_CRD_COUNT] = {\n");
    for (size_t i = 0; i < model->kind_count; i++) {
        const char *c_name = without_fl(model->kinds[i].c_name);

        fl_buf_printf(buf, "    {\"%s.%s\", %s_json, sizeof(%s_json) - 1},\n",
                      model->kinds[i].plural, model->kinds[i].group, c_name, c_name);
    }
    fl_buf_puts(buf, "};\n");
}
