#include "reconcilers/imagebuild/compose/elf.h"

#include "lib/file.h"
#include "lib/str.h"

#include <elf.h>
#include <string.h>

#define FILE_MAX   ((size_t)512 * 1024 * 1024)
#define NEEDED_MAX 256

struct image {
    const unsigned char *data;
    size_t len;
    Elf64_Ehdr header;
};

static const struct {
    unsigned machine;
    const char *architecture;
} machines[] = {
    {EM_X86_64, "amd64"}, {EM_AARCH64, "arm64"}, {EM_RISCV, "riscv64"}, {EM_PPC64, "ppc64le"}};

static int damaged(struct fl_error *err, const char *what)
{
    return fl_error_set(err, FL_E_INVALID, "a damaged ELF file: %s", what);
}

static bool copy_at(const struct image *image, uint64_t offset, void *out, size_t size)
{
    if (offset > image->len || image->len - offset < size)
        return false;
    memcpy(out, image->data + offset, size);
    return true;
}

/* A text that ends within the file. */
static const char *text_at(const struct image *image, struct fl_arena *arena, uint64_t offset)
{
    const void *end;

    if (offset >= image->len)
        return NULL;
    end = memchr(image->data + offset, 0, image->len - offset);
    return end ? fl_arena_strdup(arena, (const char *)image->data + offset) : NULL;
}

static int read_header(struct image *image, struct fl_elf *elf, struct fl_error *err)
{
    const unsigned char *ident = image->header.e_ident;

    if (!copy_at(image, 0, &image->header, sizeof(image->header)) ||
        memcmp(ident, ELFMAG, SELFMAG) != 0 || ident[EI_CLASS] != ELFCLASS64 ||
        ident[EI_DATA] != ELFDATA2LSB)
        return fl_error_set(err, FL_E_UNSUPPORTED_MEDIA, "no 64-bit little-endian ELF file");
    for (size_t i = 0; i < FL_COUNT_OF(machines); i++)
        if (machines[i].machine == image->header.e_machine)
            elf->architecture = machines[i].architecture;
    if (!elf->architecture)
        return fl_error_set(err, FL_E_UNSUPPORTED_MEDIA, "an ELF file for machine %u",
                            image->header.e_machine);
    return 0;
}

static bool segment_at(const struct image *image, unsigned i, Elf64_Phdr *ret)
{
    return image->header.e_phentsize == sizeof(*ret) &&
           copy_at(image, image->header.e_phoff + (uint64_t)i * sizeof(*ret), ret, sizeof(*ret));
}

/* Where in the file an address is. */
static bool offset_of(const struct image *image, uint64_t address, uint64_t *ret_offset)
{
    for (unsigned i = 0; i < image->header.e_phnum; i++) {
        Elf64_Phdr segment;

        if (!segment_at(image, i, &segment) || segment.p_type != PT_LOAD ||
            address < segment.p_vaddr || address - segment.p_vaddr >= segment.p_filesz)
            continue;
        *ret_offset = segment.p_offset + (address - segment.p_vaddr);
        return true;
    }
    return false;
}

static int add_needed(const struct image *image, struct fl_arena *arena, uint64_t text_offset,
                      struct fl_elf *elf, struct fl_error *err)
{
    const char *name = text_at(image, arena, text_offset);

    if (!name || !*name || strchr(name, '/'))
        return damaged(err, "the name of a library it needs");
    if (elf->needed_count == NEEDED_MAX)
        return damaged(err, "it needs too many libraries");
    if (!elf->needed)
        elf->needed = fl_new_array(arena, const char *, NEEDED_MAX);
    elf->needed[elf->needed_count++] = name;
    return 0;
}

/* Looks for the names where `ret_texts` is given; else takes what is needed. */
static int walk(const struct image *image, const Elf64_Phdr *dynamic, struct fl_arena *arena,
                uint64_t texts, struct fl_elf *elf, uint64_t *ret_texts, struct fl_error *err)
{
    int r = 0;

    for (uint64_t at = 0; r == 0 && at + sizeof(Elf64_Dyn) <= dynamic->p_filesz;
         at += sizeof(Elf64_Dyn)) {
        Elf64_Dyn entry;

        if (!copy_at(image, dynamic->p_offset + at, &entry, sizeof(entry)))
            return damaged(err, "its dynamic section");
        if (entry.d_tag == DT_NULL)
            break;
        if (ret_texts && entry.d_tag == DT_STRTAB && !offset_of(image, entry.d_un.d_ptr, ret_texts))
            return damaged(err, "its names");
        if (!ret_texts && entry.d_tag == DT_NEEDED)
            r = add_needed(image, arena, texts + entry.d_un.d_val, elf, err);
    }
    return r;
}

static int read_dynamic(const struct image *image, const Elf64_Phdr *dynamic,
                        struct fl_arena *arena, struct fl_elf *elf, struct fl_error *err)
{
    uint64_t texts = UINT64_MAX;
    int r = walk(image, dynamic, arena, 0, elf, &texts, err);

    if (r < 0 || texts == UINT64_MAX)
        return r;
    return walk(image, dynamic, arena, texts, elf, NULL, err);
}

int fl_elf_parse(struct fl_arena *arena, const void *data, size_t len, struct fl_elf *ret_elf,
                 struct fl_error *err)
{
    struct image image = {.data = data, .len = len};
    struct fl_elf elf = {0};
    int r = read_header(&image, &elf, err);

    for (unsigned i = 0; r == 0 && i < image.header.e_phnum; i++) {
        Elf64_Phdr segment;

        if (!segment_at(&image, i, &segment))
            return damaged(err, "its segments");
        if (segment.p_type == PT_INTERP && !(elf.loader = text_at(&image, arena, segment.p_offset)))
            return damaged(err, "its loader's name");
        if (segment.p_type == PT_DYNAMIC)
            r = read_dynamic(&image, &segment, arena, &elf, err);
    }
    if (r == 0)
        *ret_elf = elf;
    return r;
}

int fl_elf_read(struct fl_arena *arena, const char *path, struct fl_elf *ret_elf,
                struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
    int r = fl_file_read(path, FILE_MAX, &bytes, err);

    if (r == 0)
        r = fl_elf_parse(arena, bytes->data, bytes->len, ret_elf, err);
    if (r < 0)
        (void)fl_error_wrap(err, "%s", path);
    return r;
}
