// Events to frames: one pass over the events of each window, in their order.
#pragma once
#include <cstdint>

namespace saccade {

// Columns of a recording and the windows that are made frames of. spans: [T, 4], first event, one past the last, start and
// stop of the window in microseconds. out: [T, C, H, W], zeros where a kernel does not say otherwise.
struct Recording {
  const int64_t* t;
  const uint16_t* x;
  const uint16_t* y;
  const uint8_t* p;
  const int64_t* spans;
  int64_t T, H, W;
  float* out;
};

// Each returns the number of the first event that lies outside the sensor, where it stops; -1 without any.
int64_t count_frames(const Recording& r, bool once);
int64_t last_polarity_frames(const Recording& r);
int64_t voxel_frames(const Recording& r, int64_t bins, bool split);
int64_t count_and_time_frames(const Recording& r);
// last: [2, H, W], time of the last event of each pixel so far, NEVER without any. Every element of out is written.
constexpr int64_t NEVER = INT64_MIN;
int64_t age_frames(const Recording& r, int64_t* last);
// trajectory: [H, W]; seen: [2, H, W], whether the window before had events there; counts: [2, H, W] of scratch. Every element
// of out is written.
struct Trajectory {
  double alpha, beta;
  bool first;
  double* trajectory;
  uint8_t* seen;
  uint32_t* counts;
};
int64_t trajectory_frames(const Recording& r, const Trajectory& g);

}  // namespace saccade
