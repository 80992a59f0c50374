// Layers with weights, as the steps that compute them know them.
#pragma once
#include "engine.h"

namespace saccade::engine {

struct Geometry {
  int64_t stride_y = 1, stride_x = 1, pad_y = 0, pad_x = 0, dilation_y = 1, dilation_x = 1, groups = 1;
};

struct Synapse {
  bool map;  // a convolution [C, H, W], or a product along the last axis
  int64_t out, in, kernel_y, kernel_x;  // in: of a group
  Geometry geometry;
  int64_t height, width, out_height, out_width;
  const Array* weight;
  int64_t low, high;  // of the sums and of all their parts
  int64_t at(int64_t o, int64_t c, int64_t tap) const { return weight->data[(o * in + c) * kernel_y * kernel_x + tap]; }
  int64_t taps() const { return kernel_y * kernel_x; }
  int64_t places() const { return out_height * out_width; }
};

Synapse synapse_of(const Plan& plan, int wire);

}  // namespace saccade::engine
