// Layers of bytes, as the kernels that are offered for them know them.
#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "synapse.h"

namespace saccade::engine {

// A kernel for a layer, with weights in its order.
struct DenseChoice {
  const char* name;
  std::shared_ptr<void> weights;
  std::vector<int32_t> thresholds, start, signs;
  std::function<void(const Dense&, int64_t first, int64_t last)> prepare, run;
  int64_t rows = 0, room = 64, scratch = 64;  // rows of `prepare`
  Dense layer;                                // with what is the kernel's own
};

enum class Makes { LEVELS, SUMS, SUMS64 };

struct DenseWork {
  Synapse synapse;
  Makes makes = Makes::LEVELS;
  Dense layer;
  std::vector<int64_t> weights, thresholds;  // units; [levels][padded_out] of sums of units
  int64_t high = 0, low_sum = 0, high_sum = 0;
  std::vector<DenseChoice> choices;
  Laid in{}, out{};
  View sums;
  int64_t prepared = -1;
  int64_t at(int64_t o, int64_t c, int64_t tap) const { return weights[(o * synapse.in + c) * synapse.taps() + tap]; }
};

// A kernel for a layer; false where it has none.
using DenseOffer = bool (*)(const Plan&, const DenseWork&, DenseChoice&);
extern const std::vector<DenseOffer> DENSE_OFFERS;

}  // namespace saccade::engine
