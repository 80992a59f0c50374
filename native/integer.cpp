// The integer neuron for Python.
#include "bindings.h"

namespace saccade {

namespace {

constexpr int64_t CHUNK = 2048;

Integer neuron(float decay, float gain, float limit, float divisor, bool stateful, int64_t T, int64_t M, int type) {
  Integer c;
  c.decay = decay;
  c.gain = gain;
  c.limit = limit;
  c.divisor = divisor;
  c.stateful = stateful;
  c.T = T;
  c.M = M;
  c.type = static_cast<Type>(type);
  return c;
}

void run(const Integer& call, void (*kernel)(const Integer&, int64_t, int64_t, float*), int64_t rows, int threads) {
  struct Context {
    const Integer& call;
    decltype(kernel) work;
  } context{call, kernel};
  nb::gil_scoped_release release;
  auto work = [](void* p, int64_t first, int64_t last, float* scratch) {
    const Context& c = *static_cast<Context*>(p);
    for (int64_t i = first; i < last; ++i)
      c.work(c.call, i * CHUNK, std::min(c.call.M, (i + 1) * CHUNK), scratch);
  };
  parallel((call.M + CHUNK - 1) / CHUNK, threads_for(call.T * call.M, threads), rows * CHUNK, work, &context);
}

void integer_forward(float decay, float gain, float limit, float divisor, bool stateful, uintptr_t x, uintptr_t v0, uintptr_t y,
                     uintptr_t v_last, int64_t T, int64_t M, int type, int threads) {
  Integer c = neuron(decay, gain, limit, divisor, stateful, T, M, type);
  c.x = at<const void>(x);
  c.v0 = at<const float>(v0);
  c.y = at<void>(y);
  c.v_last = at<float>(v_last);
  run(c, chosen_kernels().integer_forward, 1, threads);
}

void integer_backward(float decay, float gain, float limit, float divisor, bool stateful, uintptr_t x, uintptr_t v0,
                      uintptr_t grad_y, uintptr_t grad_v_last, uintptr_t grad_x, uintptr_t grad_v0, int64_t T, int64_t M,
                      int type, int threads) {
  Integer c = neuron(decay, gain, limit, divisor, stateful, T, M, type);
  c.x = at<const void>(x);
  c.v0 = at<const float>(v0);
  c.grad_y = at<const void>(grad_y);
  c.grad_v_last = at<const float>(grad_v_last);
  c.grad_x = at<void>(grad_x);
  c.grad_v0 = at<float>(grad_v0);
  run(c, chosen_kernels().integer_backward, 2 + (stateful ? T : 0), threads);
}

}  // namespace

void bind_integer(nb::module_& m) {
  m.def("integer_forward", &integer_forward);
  m.def("integer_backward", &integer_backward);
}

}  // namespace saccade
