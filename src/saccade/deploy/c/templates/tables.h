/* {{ name }}: weights and thresholds. Written by Saccade. */
#ifndef {{ NAME }}_TABLES_H
#define {{ NAME }}_TABLES_H

#include <stdint.h>
{% for table in tables %}
/* {{ table_said(table) }} */
{{ initialiser(table) }}
{% endfor %}
#endif
