/* CSV files; the first byte chooses the options. */
#include "workloads/data/fuzz_pair.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = NULL;
    struct fl_csv_options options = {0};
    struct fl_input input;
    struct fl_error err = {0};

    if (size == 0)
        return 0;
    options.header = (enum fl_csv_header)(data[0] % 3);
    options.labels = (enum fl_csv_labels)(data[0] / 3 % 3);
    options.label = data[0] & 0x80 ? "label" : NULL;
    input = fl_input_of(data + 1, size - 1);
    if (fl_csv_parse(&input, &options, &fuzz_limits, &dataset, &err) == 0)
        fuzz_check(dataset);
    else if (err.msg[0] == '\0')
        __builtin_trap();
    return 0;
}
