// Neurons behind a layer, as its kernels take them.
#pragma once
#include "engine.h"
#include "synapse.h"

namespace saccade::engine {

struct NeuronData {
  Neuron neuron;
  std::vector<int32_t> offset, threshold, amount;
  std::vector<int64_t> factor64, decay64, offset64, threshold64, amount64;
  std::vector<bool> turned;  // channels whose weights are to be multiplied by -1
  void point();              // `neuron` to the arrays
};

// The neurons that a record makes of the sums of a layer, if they are the same at every place and have one level: in 32 bits where
// all that can happen in the plan's steps is proven to be the same there.
std::unique_ptr<NeuronData> neurons_of(const Plan& plan, int wire, const Synapse& s);

// Numbers [levels][padded] of a field [levels, ...] (without `levels`: one of them) that is the same at all places of a wire whose
// channels come first (3 axes) or last; false if it is not. What is padded is the largest number.
bool numbers_by_channel(const Array& a, int64_t channels, bool first, bool levels, int64_t padded, std::vector<int64_t>& to);

bool levels_in_place(Plan& plan, int wire);  // levels of numbers whose channels lie together; false: they do not

}  // namespace saccade::engine
