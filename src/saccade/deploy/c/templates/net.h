/*
 * {{ name }}: a spiking network in whole numbers, written by Saccade.
 *
 * input    {{ input_shape }}, {{ input_kind }} from {{ input.low }} to {{ input.high }}, row by row{% if program.sequence %}; one frame a step{% else %}; shown for {{ program.T }} steps{% endif %}{{ '\n' }} * logits   {{ logits }}{% if program.last %}, those of the last step{% else %}, the mean over steps{% endif %}{{ '\n' }}{%- if program.classes %} * classes  {{ comment(classes) }}
{% endif %} * neurons  {{ layers|length }} layers, {{ neurons }} neurons
 * RAM      {{ plan.ram }} bytes: {{ plan.state_bytes }} kept from step to step, {{ plan.arena_bytes }} shared by what lies between; and the stack
 * flash    {{ plan.constant_bytes }} bytes of constants, and the code
 *
 * No memory is allocated, nothing is computed in floating point, nothing but <stdint.h> and <string.h> is needed.
 */
#ifndef {{ NAME }}_H
#define {{ NAME }}_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define {{ NAME }}_INPUT {{ input_size }}
#define {{ NAME }}_LOGITS {{ logits }}
/* Steps of {{ name }}_run. */
#define {{ NAME }}_STEPS {{ program.T }}
/* Steps from rest that all ranges are proven for; 0: as many as come. */
#define {{ NAME }}_MOST_STEPS {{ writer.most or 0 }}
/* A logit of a step is its whole number / 2^{{ answer.bits }}, to {{ '%.1e' % answer.error }} of the program's. */
#define {{ NAME }}_LOGIT_BITS {{ answer.bits }}

/* A number of a picture. */
typedef {{ input_kind }} {{ name }}_input;

/* Everything that a run needs: one for each stream. Its parts are nobody else's business. */
struct {{ name }} {
    int step; /* since rest */
{%- for state in writer.states if plan.streams %}
    {{ state.kind }} {{ state.name }}[{{ state.count }}]; /* {{ state.says }} of {{ comment(program.wires[state.name[4:]|int].path) }} */
{%- endfor %}
    union { /* wires that are not needed at the same time share it */
{%- for kind in arena_kinds %}
        {{ kind }} {{ member(kind) }}[{{ plan.arena_bytes // bytes_of(kind) }}];
{%- endfor %}
    } arena;
};

/* To rest: before the first step of anything new. */
void {{ name }}_rest(struct {{ name }} *net);

{% if plan.streams -%}
/* A step: reads {{ input_size }} numbers{% if not program.sequence %} (the same ones in all steps from rest){% endif %}, writes the {{ logits }} logits of this step.
 * Returns 0; -1, having done nothing, after {{ NAME }}_MOST_STEPS steps. */
int {{ name }}_step(struct {{ name }} *net, const {{ name }}_input *input, int64_t *logits);

{% endif -%}/* From rest, {{ program.T }} steps{% if program.sequence %} of {{ input_size }} numbers each{% endif %}: the {% if program.last %}logits of the last one{% else %}sums of their logits ({{ program.T }} times the mean){% endif %}. */
void {{ name }}_run(struct {{ name }} *net, const {{ name }}_input *input, int64_t *logits);

/* The largest of {{ logits }} logits; of equal ones the first. */
int {{ name }}_class(const int64_t *logits);

#ifdef {{ NAME }}_TRACE
/* For tests: called with the levels of each layer of neurons as they are made. */
extern void (*{{ name }}_seen)(int layer, const void *levels);
extern const uint32_t {{ name }}_bytes; /* of a struct {{ name }} */
#endif

#ifdef __cplusplus
}
#endif

#endif
