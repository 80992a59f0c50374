// saccade._native: the kernels for Python. Tensors come as addresses, so that one binary serves every torch; the callers in
// saccade/kernels/ check shapes, types and layouts.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "kernels.h"
#include "parallel.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace saccade {

void bind_dehazing(nb::module_& m);

namespace {

std::vector<const Kernels*> available() {
  std::vector<const Kernels*> found{&baseline::kernels};
#if defined(SACCADE_AVX2)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
    found.push_back(&avx2::kernels);
#endif
#if defined(SACCADE_AVX512)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd"))
    found.push_back(&avx512::kernels);
#endif
  return found;
}

const Kernels* chosen = available().back();

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const Kernels* k : available()) names.push_back(k->name);
  return names;
}

void use_instruction_set(const std::string& name) {
  for (const Kernels* k : available())
    if (name == k->name) {
      chosen = k;
      return;
    }
  throw std::invalid_argument("no kernels for " + name + " on this machine");
}

template <class T> T* at(uintptr_t address) { return reinterpret_cast<T*>(address); }

constexpr int64_t MEGABYTE = 1 << 20;

// Chunks do not depend on the number of threads, and neither does any result.
int64_t chunk_of(int64_t M, int64_t most) {
  const int64_t chunk = std::min(most, (M + 7) / 8);
  return std::max<int64_t>((chunk + 15) / 16 * 16, 64);
}

// Measured on Zen 5 (48 KB of L1, 1 MB of L2 a core): a forward chunk's state and rows stay in L1, a backward chunk's
// potentials of all steps in L2; outputs that will not fit in the last cache go past it.
constexpr int64_t FORWARD_CHUNK = 4096, BACKWARD_CHUNK = 2048, BACKWARD_FLOATS = 98304;
constexpr int64_t STREAM_BYTES = 16 * MEGABYTE;
constexpr int64_t GRAIN = 16384;  // element-steps that are worth a thread

int threads_for(int64_t elements, int threads) {
  return static_cast<int>(std::min<int64_t>(threads, std::max<int64_t>(1, elements / GRAIN)));
}

Sequence sequence(int64_t T, int64_t M, bool once, int type) {
  Sequence q;
  q.T = T;
  q.M = M;
  q.x_stride = once ? 0 : M;
  q.type = static_cast<Type>(type);
  q.stream = T * M * 4 >= STREAM_BYTES;
  return q;
}

template <class Call> void run(const Call& call, void (*kernel)(const Call&, int64_t, int64_t, float*), int64_t floats, int threads) {
  struct Context {
    const Call& call;
    decltype(kernel) work;
  } context{call, kernel};
  const int64_t chunk = call.seq.chunk, chunks = (call.seq.M + chunk - 1) / chunk;
  auto work = [](void* p, int64_t first, int64_t last, float* scratch) {
    const Context& c = *static_cast<Context*>(p);
    for (int64_t i = first; i < last; ++i)
      c.work(c.call, i * c.call.seq.chunk, std::min(c.call.seq.M, (i + 1) * c.call.seq.chunk), scratch);
  };
  parallel(chunks, threads_for(call.seq.T * call.seq.M, threads), floats, work, &context);
}

void lif_forward(const Neuron& neuron, uintptr_t x, uintptr_t v0, uintptr_t spikes, uintptr_t v_last, uintptr_t potentials,
                 int64_t T, int64_t M, bool once, int type, int threads) {
  Forward f;
  f.seq = sequence(T, M, once, type);
  f.seq.chunk = chunk_of(M, FORWARD_CHUNK);
  f.neuron = neuron;
  f.x = at<const void>(x);
  f.v0 = at<const float>(v0);
  f.spikes = at<void>(spikes);
  f.v_last = at<float>(v_last);
  f.potentials = at<float>(potentials);
  nb::gil_scoped_release release;
  run(f, chosen->forward, forward_scratch(f.seq.chunk), threads);
}

void lif_backward(const Neuron& neuron, uintptr_t x, uintptr_t v0, uintptr_t grad_spikes, uintptr_t grad_v_last,
                  uintptr_t grad_potentials, uintptr_t grad_x, uintptr_t grad_v0, uintptr_t grad_decay, uintptr_t grad_gain,
                  uintptr_t grad_v_th, int64_t T, int64_t M, bool once, int type, int threads) {
  Backward b;
  b.seq = sequence(T, M, once, type);
  b.seq.chunk = chunk_of(M, std::min(BACKWARD_CHUNK, BACKWARD_FLOATS / std::max<int64_t>(T, 1)));
  b.neuron = neuron;
  b.x = at<const void>(x);
  b.v0 = at<const float>(v0);
  b.grad_spikes = at<const void>(grad_spikes);
  b.grad_v_last = at<const float>(grad_v_last);
  b.grad_potentials = at<const float>(grad_potentials);
  b.grad_x = at<void>(grad_x);
  b.grad_v0 = at<float>(grad_v0);
  b.grad_constants[0] = at<float>(grad_decay);
  b.grad_constants[1] = at<float>(grad_gain);
  b.grad_constants[2] = at<float>(grad_v_th);
  nb::gil_scoped_release release;
  run(b, chosen->backward, backward_scratch(T, b.seq.chunk), threads);
}

// Sums of per-neuron gradients into the values of a constant, in double precision and in a fixed order.
void sum_to_constant(uintptr_t gradients, int64_t M, uintptr_t sums, int64_t size, int64_t inner) {
  const float* g = at<const float>(gradients);
  std::vector<double> total(size, 0.0);
  for (int64_t i = 0; i < M;) {
    const int64_t stop = size == 1 ? M : std::min(M, (i / inner + 1) * inner);
    double part[8] = {};
    double& into = total[(i / inner) % size];
    int64_t k = i;
    for (; k + 8 <= stop; k += 8)
      for (int j = 0; j < 8; ++j) part[j] += g[k + j];
    for (; k < stop; ++k) part[0] += g[k];
    for (double p : part) into += p;
    i = stop;
  }
  float* out = at<float>(sums);
  for (int64_t i = 0; i < size; ++i) out[i] = static_cast<float>(total[i]);
}

constexpr int64_t BITS_CHUNK = 1 << 16;

bool pack(uintptr_t x, int type, float unit, int low, int planes, uintptr_t bits, int64_t plane_bytes, int64_t n, int threads) {
  struct Context {
    const void* x;
    Type type;
    Grid grid;
    uint8_t* bits;
    int64_t plane_bytes, n;
    std::atomic<bool> good{true};
  } context{at<const void>(x), static_cast<Type>(type), {unit, low, planes}, at<uint8_t>(bits), plane_bytes, n};
  nb::gil_scoped_release release;
  auto work = [](void* p, int64_t first, int64_t last, float*) {
    auto& c = *static_cast<Context*>(p);
    if (!chosen->pack(c.x, c.type, c.grid, c.bits, c.plane_bytes, first * BITS_CHUNK, std::min(c.n, last * BITS_CHUNK)))
      c.good = false;
  };
  parallel((n + BITS_CHUNK - 1) / BITS_CHUNK, threads_for(n, threads), 0, work, &context);
  return context.good;
}

void unpack(uintptr_t bits, int64_t plane_bytes, float unit, int low, int planes, uintptr_t x, int type, int64_t n, int threads) {
  struct Context {
    const uint8_t* bits;
    int64_t plane_bytes;
    Grid grid;
    void* x;
    Type type;
    int64_t n;
  } context{at<const uint8_t>(bits), plane_bytes, {unit, low, planes}, at<void>(x), static_cast<Type>(type), n};
  nb::gil_scoped_release release;
  auto work = [](void* p, int64_t first, int64_t last, float*) {
    const auto& c = *static_cast<Context*>(p);
    chosen->unpack(c.bits, c.plane_bytes, c.grid, c.x, c.type, first * BITS_CHUNK, std::min(c.n, last * BITS_CHUNK));
  };
  parallel((n + BITS_CHUNK - 1) / BITS_CHUNK, threads_for(n, threads), 0, work, &context);
}

void pool(uintptr_t from, uintptr_t to, int64_t rows, int64_t W, int64_t C, int k, bool back, int threads) {
  struct Context {
    Pool pool;
    int64_t rows;
  } context{{at<const float>(from), at<float>(to), W, C, k, back, rows * k * W * C * 4 >= STREAM_BYTES}, rows};
  nb::gil_scoped_release release;
  constexpr int64_t TOGETHER = 4;
  auto work = [](void* p, int64_t first, int64_t last, float*) {
    const auto& c = *static_cast<Context*>(p);
    chosen->pool(c.pool, first * TOGETHER, std::min(c.rows, last * TOGETHER));
  };
  parallel((rows + TOGETHER - 1) / TOGETHER, threads_for(rows * k * W * C, threads), 0, work, &context);
}

// Large tensors stay in the heap instead of going back to the system at every free, to be faulted in again page by page.
bool keep_memory() {
#if defined(__GLIBC__)
  return mallopt(M_MMAP_MAX, 0) && mallopt(M_TRIM_THRESHOLD, -1) && mallopt(M_TOP_PAD, 256 * MEGABYTE);
#else
  return false;
#endif
}

Constant constant(uintptr_t values, int64_t size, int64_t inner, float number) {
  Constant c;
  c.values = at<const float>(values);
  c.size = size;
  c.inner = inner;
  c.number = number;
  return c;
}

}  // namespace

const Kernels& chosen_kernels() { return *chosen; }

}  // namespace saccade

NB_MODULE(_native, m) {
  using namespace saccade;
  nb::set_leak_warnings(false);
  nb::class_<Neuron>(m, "Neuron")
      .def("__init__",
           [](Neuron* self, float decay, float gain, float v_th, float v_rest, float v_reset, int reset, bool detach_reset,
              int surrogate, float width) {
             new (self) Neuron();
             self->decay.number = decay;
             self->gain.number = gain;
             self->v_th.number = v_th;
             self->v_rest = v_rest;
             self->v_reset = v_reset;
             self->reset = static_cast<Reset>(reset);
             self->detach_reset = detach_reset;
             self->surrogate = static_cast<Surrogate>(surrogate);
             self->width = width;
           })
      .def("with_values",
           [](const Neuron& self, int which, uintptr_t values, int64_t size, int64_t inner) {
             Neuron copy = self;
             (which == 0 ? copy.decay : which == 1 ? copy.gain : copy.v_th) = constant(values, size, inner, 0);
             return copy;
           });
  m.def("lif_forward", &lif_forward);
  m.def("lif_backward", &lif_backward);
  m.def("sum_to_constant", &sum_to_constant);
  m.def("pack", &pack);
  m.def("unpack", &unpack);
  m.def("pool", &pool);
  bind_dehazing(m);
  m.def("keep_memory", &keep_memory);
  m.def("instruction_sets", &instruction_sets);
  m.def("instruction_set", [] { return std::string(chosen->name); });
  m.def("use_instruction_set", &use_instruction_set);
}
