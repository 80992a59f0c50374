/* {{ name }}: does it compute here what it computed where it was made? Exit code 0 if it does. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "golden.h"
#include "{{ name }}.h"

#ifdef COUNT_INSTRUCTIONS /* of the board: reads a counter that counts downwards */
uint32_t ticks_left(void);
#endif

static struct {{ name }} net;
static uint32_t sums[GOLDEN_LAYERS], marks[GOLDEN_LAYERS];

/* Counts levels, and marks them by their places. */
static void seen(int layer, const void *levels)
{
    uint32_t sum = 0, mark = 0;
    for (uint32_t i = 0; i < golden_layers[layer].size; i++) {
        uint32_t level;
        if (golden_layers[layer].bytes == 1) {
            level = ((const uint8_t *)levels)[i];
        } else {
            level = ((const uint16_t *)levels)[i];
        }
        sum += level;
        mark += level * (i + 1) * UINT32_C(2654435761);
    }
    sums[layer] += sum;
    marks[layer] = marks[layer] * 31 + mark;
}

int main(void)
{
    int wrong = 0;
    printf("{{ name }}: %u bytes of RAM\n", (unsigned)sizeof net);
    {{ name }}_seen = seen;
    for (int sample = 0; sample < GOLDEN_SAMPLES; sample++) {
        int64_t logits[{{ NAME }}_LOGITS];
        memset(sums, 0, sizeof sums);
        memset(marks, 0, sizeof marks);
        {{ name }}_run(&net, golden_inputs[sample], logits);
        for (int layer = 0; layer < GOLDEN_LAYERS; layer++) {
            if (sums[layer] != golden_sums[sample][layer] || marks[layer] != golden_marks[sample][layer]) {
                printf("sample %d, %s: %" PRIu32 " spikes where %" PRIu32 " were expected, or elsewhere\n", sample,
                       golden_layers[layer].path, sums[layer], golden_sums[sample][layer]);
                wrong++;
            }
        }
        if (memcmp(logits, golden_logits[sample], sizeof logits) != 0) {
            printf("sample %d: other logits than expected\n", sample);
            wrong++;
        }
        printf("sample %d: class %d\n", sample, {{ name }}_class(logits));
    }
#ifdef COUNT_INSTRUCTIONS
    {{ name }}_seen = 0;
    int64_t logits[{{ NAME }}_LOGITS];
    const uint32_t before = ticks_left();
    {{ name }}_run(&net, golden_inputs[0], logits);
    printf("ticks %" PRIu32 "\n", before - ticks_left());
#endif
    printf(wrong ? "FAILED\n" : "all spikes and logits as expected\n");
    return wrong != 0;
}
