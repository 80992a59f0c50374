/* {{ name }}: inputs, and what the interpreter of the program made of them. Written by Saccade. */
#ifndef {{ NAME }}_GOLDEN_H
#define {{ NAME }}_GOLDEN_H

#include <stdint.h>

#include "{{ name }}.h"

#define GOLDEN_SAMPLES {{ samples }}
#define GOLDEN_LAYERS {{ layers|length }}

static const struct {
    const char *path;
    uint32_t size;
    int bytes;
} golden_layers[GOLDEN_LAYERS] = {
{%- for layer in layers %}
    {"{{ quoted(layer.path) }}", {{ size_of(layer.shape) }}, {{ bytes_of(layer.kind) }}},
{%- endfor %}
};

/* {{ frames }} numbers each */
static const {{ name }}_input golden_inputs[GOLDEN_SAMPLES][{{ frames }}] = {
{%- for rows in inputs %}
{
{{ rows }}
},
{%- endfor %}
};

/* Levels of all steps, summed. */
static const uint32_t golden_sums[GOLDEN_SAMPLES][GOLDEN_LAYERS] = {
{%- for row in sums %}
    { {{- row -}} },
{%- endfor %}
};

/* The same with their places. */
static const uint32_t golden_marks[GOLDEN_SAMPLES][GOLDEN_LAYERS] = {
{%- for row in marks %}
    { {{- row -}} },
{%- endfor %}
};

static const int64_t golden_logits[GOLDEN_SAMPLES][{{ logits }}] = {
{%- for row in golden_logits %}
    { {{- row -}} },
{%- endfor %}
};

#endif
