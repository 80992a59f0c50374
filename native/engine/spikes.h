// Operations on spikes as bits.
#pragma once
#include "engine.h"

namespace saccade::engine {

bool spikes_logic(Plan& plan, int wire);   // and, or, ... of wires of bits; false: another form has to do it
bool spikes_window(Plan& plan, int wire);  // maxima of windows
bool spikes_sum(Plan& plan, int wire);     // counts over a map
void narrow_logic(Plan& plan);             // ranges of sums that stand for logic, which are wider than what can happen

}  // namespace saccade::engine
