// Recordings of event cameras: what the decoders share. Source of the layouts: saccade/events/plain.py, which defines the results.
#pragma once
#include <cstdint>

namespace saccade {

// Layouts, in the order of saccade/events/decoding.py.
enum class Layout : int {
  evt2, evt21, evt21_halves, evt3, dat, bs2, dvs128, davis, aedat3, dv, es_dvs, es_atis, ros_events, ros_mono, table, count
};

struct Columns {
  int64_t* t;
  uint16_t* x;
  uint16_t* y;
  uint8_t* p;
};

// What is wrong with an event or a word, in the order of saccade/events/faults.py.
enum Fault : int { NONE, OUTSIDE, BACKWARD, RESERVED, NO_BASE, NO_TIME, POLARITY, FAULTS };

constexpr int STATE = 8;  // what a decoder carries from piece to piece; [0] is the time of the last event that was kept

struct Request {
  Layout layout;
  const uint8_t* data;  // of the whole file, or of a packet
  int64_t begin, end;   // bytes of it
  Columns out;
  int64_t room;    // events that fit into `out`
  int64_t* state;  // [STATE]
  int64_t width, height;
  bool lenient;
};

struct Report {
  int64_t consumed = 0;  // the byte after the last word that was read
  int64_t fault = NONE;  // the first fault, where it ended the reading
  int64_t offset = 0, a = 0, b = 0;
  int64_t most_x = -1, most_y = -1;
  int64_t dropped[FAULTS] = {}, first[FAULTS] = {};  // by fault: how many, and the byte of the first
};

struct EventKernels {
  int64_t (*decode)(const Request&, Report&);  // returns the number of events
  // Whether columns are right: no pixel outside, no other polarity than 0 and 1, no time before `last`. Sets the most of x and y.
  bool (*check)(const Columns&, int64_t n, int64_t last, int64_t width, int64_t height, Report&);
  int64_t (*count)(Layout, const uint8_t* data, int64_t begin, int64_t end);  // at least as many as decode will give
};

namespace baseline { extern const EventKernels events; }
namespace avx2 { extern const EventKernels events; }
namespace avx512 { extern const EventKernels events; }

}  // namespace saccade
