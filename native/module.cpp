// saccade._native: the kernels for Python, one file of bindings for each subject.
#include "bindings.h"

NB_MODULE(_native, m) {
  nanobind::set_leak_warnings(false);
  saccade::bind_lif(m);
  saccade::bind_bits(m);
  saccade::bind_pool(m);
  saccade::bind_dehazing(m);
  saccade::bind_events(m);
  saccade::bind_integer(m);
  saccade::bind_dendritic(m);
  saccade::bind_frames(m);
  saccade::bind_machine(m);
}
