// The LIF loop for Python.
#include <vector>

#include "bindings.h"

namespace saccade {

namespace {

// Chunks do not depend on the number of threads, and neither does any result.
int64_t chunk_of(int64_t M, int64_t most) {
  const int64_t chunk = std::min(most, (M + 7) / 8);
  return std::max<int64_t>((chunk + 15) / 16 * 16, 64);
}

// Measured on Zen 5 (48 KB of L1, 1 MB of L2 a core): a forward chunk's state and rows stay in L1, a backward chunk's
// potentials of all steps in L2.
constexpr int64_t FORWARD_CHUNK = 4096, BACKWARD_CHUNK = 2048, BACKWARD_FLOATS = 98304;

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
  run(f, chosen_kernels().forward, forward_scratch(f.seq.chunk), threads);
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
  run(b, chosen_kernels().backward, backward_scratch(T, b.seq.chunk), threads);
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

Constant constant(uintptr_t values, int64_t size, int64_t inner, float number) {
  Constant c;
  c.values = at<const float>(values);
  c.size = size;
  c.inner = inner;
  c.number = number;
  return c;
}

}  // namespace

void bind_lif(nb::module_& m) {
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
}

}  // namespace saccade
