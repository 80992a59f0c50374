/* {{ name }}: see {{ name }}.h. Written by Saccade; functions are named by the wire that they make. */
#include "{{ name }}.h"

#include <string.h>

#include "{{ name }}_tables.h"

/* What C leaves to the compiler and this file relies on: bytes of 8 bits, int of 32, two's complement, shifts that keep the
 * sign. The order of bytes does not matter: no number is read as another type. */
typedef char bytes_have_8_bits[sizeof(int64_t) == 8 && (unsigned char)255 == 255 && (unsigned char)256 == 0 ? 1 : -1];
typedef char int_has_32_bits[sizeof(int) >= 4 ? 1 : -1];
typedef char twos_complement[(-1 & 3) == 3 ? 1 : -1];
typedef char shifts_keep_the_sign[(-2 >> 1) == -1 ? 1 : -1];
typedef char as_planned[sizeof(struct {{ name }}) <= {{ plan.ram }} ? 1 : -1];

#ifdef {{ NAME }}_TRACE
void (*{{ name }}_seen)(int layer, const void *levels);
const uint32_t {{ name }}_bytes = sizeof(struct {{ name }});
#define SEEN(layer, levels)                  \
    if ({{ name }}_seen) {                  \
        {{ name }}_seen((layer), (levels)); \
    }
#else
#define SEEN(layer, levels)
#endif
{% if any_of_four %}
/* Whether one of four numbers is not 0: most spikes are. */
static inline int any_of_four(const uint8_t *from)
{
    uint32_t four;
    memcpy(&four, from, sizeof four);
    return four != 0;
}
{% endif %}
{%- if writer.states and not plan.streams %}
/* What neurons keep lies in the shared memory, and begins at 0. */
static void potentials_to_rest(void *kept, size_t bytes)
{
    memset(kept, 0, bytes);
}
{% endif %}
{%- for f in functions %}
/* {{ said(f) }} */
static void {{ function_name(f) }}({{ declared(f) }})
{
{%- for line in f.body %}
    {{ line }}
{%- endfor %}
}
{% endfor %}
/* The logits of a step. */
static void answer({{ answer_declared }}, int64_t *restrict logits)
{
{%- for line in answer_lines %}
    {{ line }}
{%- endfor %}
}

void {{ name }}_rest(struct {{ name }} *net)
{
    net->step = 0;
{%- for state in writer.states if plan.streams %}
    memset(net->{{ state.name }}, 0, sizeof net->{{ state.name }});
{%- endfor %}
}

{% if plan.streams -%}
int {{ name }}_step(struct {{ name }} *net, const {{ name }}_input *input, int64_t *logits)
{
{%- if writer.most %}
    if (net->step >= {{ NAME }}_MOST_STEPS) {
        return -1;
    }
{%- endif %}
{%- if plan.phases[0].once %}
    if (net->step == 0) { /* what stands still */
{%- for f in plan.phases[0].once %}
        {{ function_name(f) }}({{ arguments(f) }});
{{- seen(f, '        ') }}
{%- endfor %}
    }
{%- endif %}
{%- for f in plan.phases[0].each %}
    {{ function_name(f) }}({{ arguments(f) }});
{{- seen(f, '    ') }}
{%- endfor %}
    answer({{ answer_given }}, logits);
{%- if writer.most %}
    net->step++;
{%- else %}
    net->step += net->step < INT32_MAX;
{%- endif %}
    return 0;
}

void {{ name }}_run(struct {{ name }} *net, const {{ name }}_input *input, int64_t *logits)
{
    {{ name }}_rest(net);
{%- if program.last %}
    for (int step = 0; step < {{ NAME }}_STEPS; step++) {
        (void){{ name }}_step(net, input{% if program.sequence %} + step * {{ NAME }}_INPUT{% endif %}, logits);
    }
{%- else %}
    int64_t now[{{ NAME }}_LOGITS];
    memset(logits, 0, {{ NAME }}_LOGITS * sizeof logits[0]);
    for (int step = 0; step < {{ NAME }}_STEPS; step++) {
        (void){{ name }}_step(net, input{% if program.sequence %} + step * {{ NAME }}_INPUT{% endif %}, now);
        for (int i = 0; i < {{ NAME }}_LOGITS; i++) {
            logits[i] += now[i];
        }
    }
{%- endif %}
}
{%- else -%}
/* All steps are computed up to {{ 'each layer of neurons' if layered else 'a gate, which looks at all of them,' }} before any goes on. */
void {{ name }}_run(struct {{ name }} *net, const {{ name }}_input *input, int64_t *logits)
{
    int64_t now[{{ NAME }}_LOGITS];
    {{ name }}_rest(net);
    memset(logits, 0, {{ NAME }}_LOGITS * sizeof logits[0]);
{%- for phase in plan.phases %}
    net->step = 0;
{%- for f in phase.once %}
    {{ function_name(f) }}({{ arguments(f) }});
{{- seen(f, '    ') }}
{%- endfor %}
{%- for f in phase.each if f.state %}
    potentials_to_rest({{ kept_place(f) }}, {{ writer.buffers[-f.wire].bytes }});
{%- endfor %}
{%- if phase.each or loop.last %}
    for (; net->step < {{ NAME }}_STEPS; net->step++) {
{%- for f in phase.each %}
        {{ function_name(f) }}({{ arguments(f) }});
{{- seen(f, '        ') }}
{%- endfor %}
{%- if loop.last %}
        answer({{ answer_given }}, now);
        for (int i = 0; i < {{ NAME }}_LOGITS; i++) {
            logits[i] {{ '=' if program.last else '+=' }} now[i];
        }
{%- endif %}
    }
{%- endif %}
{%- endfor %}
}
{%- endif %}

int {{ name }}_class(const int64_t *logits)
{
    int best = 0;
    for (int i = 1; i < {{ NAME }}_LOGITS; i++) {
        if (logits[i] > logits[best]) {
            best = i;
        }
    }
    return best;
}
