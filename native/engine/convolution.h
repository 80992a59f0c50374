// Layers of spikes: which kernel computes them, with what follows.
#pragma once
#include "neurons.h"

namespace saccade::engine {

constexpr double RATES[] = {0.02, 0.08, 0.2, 0.45};  // of the input, about, at which kernels are timed

// A kernel for a layer: `prepare` for rows of the input at all steps, `run` for rows of the output.
struct Candidate {
  const char* name;
  std::shared_ptr<void> weights;
  std::function<void(Block&, int64_t first, int64_t last)> prepare, run;
  int64_t room = 0, scratch = 0;
  std::vector<double> took;  // microseconds at the rates of the layer's spikes
};

struct Layer {
  Synapse synapse;
  std::vector<int64_t> weights;  // of the synapse, with the signs of the neurons
  Block block;                   // geometry alone
  int64_t at(int64_t o, int64_t c, int64_t tap) const { return weights[(o * synapse.in + c) * synapse.taps() + tap]; }
  // Weights are scale * unit + base, units as small as can be; `low`, `high`: between which sums of some units lie.
  int64_t scale = 1, base = 0, least = 0, most = 0, low = 0, high = 0;
  int64_t unit(int64_t o, int64_t c, int64_t tap) const { return (at(o, c, tap) - base) / scale; }
  void units(int64_t from);  // base

};

// Weights in an order of a kernel's own, aligned.
std::shared_ptr<void> aligned(int64_t bytes);

using Offer = void (*)(const Plan&, const Layer&, std::vector<Candidate>&);
struct Offered {
  explicit Offered(Offer offer);
};

bool spikes_synapse(Plan& plan, int wire);  // false: the input is no spikes, or of another kind
bool levels_synapse(Plan& plan, int wire);  // likewise for bytes, where neurons of several levels follow
bool bytes_synapse(Plan& plan, int wire);   // likewise for bytes
bool sums_synapse(Plan& plan, int wire);    // likewise for bytes of which nothing but sums is made

}  // namespace saccade::engine
