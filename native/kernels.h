// What the kernels take: plain structs, filled by the bindings and worked off chunk by chunk.
#pragma once
#include <cstdint>

namespace saccade {

enum class Reset : int { hard, soft, none };
enum class Surrogate : int { atan, sigmoid, triangle, rectangle, gaussian, straight_through };
enum class Type : int { float32, bfloat16, float16 };

// decay, gain or threshold: one number, or an array whose value for neuron i is values[(i / inner) % size].
struct Constant {
  const float* values = nullptr;
  int64_t size = 1;
  int64_t inner = 1;
  float number = 0;
  __attribute__((always_inline)) float at(int64_t i) const { return values ? values[(i / inner) % size] : number; }
};

struct Neuron {
  Constant decay, gain, v_th;
  float v_rest = 0, v_reset = 0;
  Reset reset = Reset::hard;
  bool detach_reset = true;
  Surrogate surrogate = Surrogate::atan;
  float width = 0;  // the surrogate's one parameter
};

// T steps of M neurons each, in any dense order with time outermost. A null pointer is an output or input that is not there.
struct Sequence {
  int64_t T = 0, M = 0, chunk = 0;
  int64_t x_stride = 0;  // elements from step to step: M, or 0 for one input shown T times
  Type type = Type::float32;
  bool stream = false;  // write past the cache
};

struct Forward {
  Sequence seq;
  Neuron neuron;
  const void* x = nullptr;
  const float* v0 = nullptr;
  void* spikes = nullptr;
  float* v_last = nullptr;
  float* potentials = nullptr;
};

struct Backward {
  Sequence seq;
  Neuron neuron;
  const void* x = nullptr;
  const float* v0 = nullptr;
  const void* grad_spikes = nullptr;
  const float* grad_v_last = nullptr;
  const float* grad_potentials = nullptr;
  void* grad_x = nullptr;  // [T, M], or [M] summed over time where x_stride is 0
  float* grad_v0 = nullptr;
  float* grad_constants[3] = {nullptr, nullptr, nullptr};  // [M] each, summed over time: decay, gain, v_th
};

// Values (low + index) * unit with an index of `planes` bits; plane j of the packed form holds bit j of every index.
struct Grid {
  float unit = 1;
  int low = 0;
  int planes = 1;
};

// Means of k x k windows; C numbers lie together at each place (1 where width is innermost). A row is a row of windows.
struct Pool {
  const float* from;
  float* to;
  int64_t W, C;
  int k;
  bool back, stream;
};

// Integer neurons: T steps of M neurons, whose inputs and outputs are of a type (float32 or bfloat16). v0, v_last: what the last
// level left of a potential, [M].
struct Integer {
  float decay = 0, gain = 1, limit = 1, divisor = 1;
  bool stateful = false;
  int64_t T = 0, M = 0;
  Type type = Type::float32;
  const void *x = nullptr, *grad_y = nullptr;
  void *y = nullptr, *grad_x = nullptr;
  const float *v0 = nullptr, *grad_v_last = nullptr;
  float *v_last = nullptr, *grad_v0 = nullptr;
};

// Pairs of dendritic compartments over B sequences of L tokens of D channels, [B, L, D]; states are [B, 2 * pairs, D].
struct Dendritic {
  const float* parameters = nullptr;  // [4, pairs]: real and imaginary part of the turn, weights of both in the read-out
  int pairs = 0;
  int64_t B = 0, L = 0, D = 0;
  const float *x = nullptr, *state = nullptr;
  float *y = nullptr, *last = nullptr;
  const float *grad_y = nullptr, *grad_last = nullptr;
  float *grad_x = nullptr, *grad_state = nullptr;
  float* grad_pairs = nullptr;  // [units, 4, pairs]; a unit is a vector of channels of one sequence
  const float* pairs_of(int which) const { return parameters + which * pairs; }
};
constexpr int64_t DENDRITIC_SEGMENT = 32;  // tokens whose states are held at once on the way back

struct DehazeKernels;  // dehaze.h
struct EventKernels;   // events.h
struct FrameKernels;   // frames.h

struct Kernels {
  const char* name;
  // Chunk [begin, end) of the neurons. `scratch` holds *_scratch floats, aligned to 64 bytes.
  void (*forward)(const Forward&, int64_t begin, int64_t end, float* scratch);
  void (*backward)(const Backward&, int64_t begin, int64_t end, float* scratch);
  // Elements [begin, end), begin a multiple of 64. pack returns false where a value is not on the grid.
  bool (*pack)(const void* x, Type, Grid, uint8_t* bits, int64_t plane_bytes, int64_t begin, int64_t end);
  void (*unpack)(const uint8_t* bits, int64_t plane_bytes, Grid, void* x, Type, int64_t begin, int64_t end);
  void (*pool)(const Pool&, int64_t first_row, int64_t last_row);
  const DehazeKernels* dehaze;
  const EventKernels* events;
  const FrameKernels* frames;
  void (*integer_forward)(const Integer&, int64_t begin, int64_t end, float* scratch);   // scratch: a chunk
  void (*integer_backward)(const Integer&, int64_t begin, int64_t end, float* scratch);  // 2 chunks, and T if stateful
  void (*dendritic_forward)(const Dendritic&, int64_t first_unit, int64_t last_unit);
  void (*dendritic_backward)(const Dendritic&, int64_t first_unit, int64_t last_unit, float* scratch);
  int width;  // floats in a vector
};

const Kernels& chosen_kernels();  // of the instruction set in use

inline int64_t forward_scratch(int64_t chunk) { return 6 * chunk; }
inline int64_t backward_scratch(int64_t T, int64_t chunk) { return (T + 10) * chunk; }

namespace baseline { extern const Kernels kernels; }
namespace avx2 { extern const Kernels kernels; }
namespace avx512 { extern const Kernels kernels; }

}  // namespace saccade
