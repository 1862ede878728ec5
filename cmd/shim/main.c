/* `flops-shim`: `flops shim` by itself. It is there once for each run, so it links next to nothing
 * and is in memory a tenth of what the whole program would be. */
#include "lib/shim.h"

int main(void)
{
    return fl_shim_main();
}
