// Events to frames: one pass over the events of each window, in their order.
#pragma once
#include <cstdint>

namespace saccade {

// Columns of a recording and the windows that are made frames of. spans: [T, 4], first event, one past the last, start and
// stop of the window in microseconds. out: [T, C, H, W], of which every element is written. scratch: zeros [C, H, W], which they are
// again afterwards: events scatter there, where it stays in the caches, and the frame is moved on whole.
struct Recording {
  const int64_t* t;
  const uint16_t* x;
  const uint16_t* y;
  const uint8_t* p;
  const int64_t* spans;
  int64_t T, H, W;
  float* out;
  float* scratch;
};

constexpr int64_t NEVER = INT64_MIN;

// trajectory: [H, W]; before: [2, H, W], counts of the window before, at most 255; counts: zeros [2, H, W], which they are again
// afterwards.
struct Trajectory {
  double alpha, beta;
  double* trajectory;
  uint8_t* before;
  uint8_t* counts;
};

// Each returns the number of the first event that lies outside the sensor, where it stops; -1 without any.
struct FrameKernels {
  int64_t (*count)(const Recording&, bool once);
  int64_t (*last_polarity)(const Recording&);
  int64_t (*voxel)(const Recording&, int64_t bins, bool split);
  int64_t (*count_and_time)(const Recording&);
  // last: [2, H, W], time of the last event of each pixel so far, NEVER without any.
  int64_t (*time_surface)(const Recording&, int64_t* last, float tau);
  int64_t (*trajectory)(const Recording&, const Trajectory&);
};

}  // namespace saccade
