// The scan of dendritic compartments for Python.
#include <vector>

#include "bindings.h"

namespace saccade {

namespace {

Dendritic scan(uintptr_t parameters, int pairs, int64_t B, int64_t L, int64_t D) {
  Dendritic c;
  c.parameters = at<const float>(parameters);
  c.pairs = pairs;
  c.B = B;
  c.L = L;
  c.D = D;
  return c;
}

int64_t units_of(const Dendritic& c) { return c.B * ((c.D + chosen_kernels().width - 1) / chosen_kernels().width); }

void dendritic_forward(uintptr_t parameters, int pairs, uintptr_t x, uintptr_t state, uintptr_t y, uintptr_t last, int64_t B,
                       int64_t L, int64_t D, int threads) {
  Dendritic c = scan(parameters, pairs, B, L, D);
  c.x = at<const float>(x);
  c.state = at<const float>(state);
  c.y = at<float>(y);
  c.last = at<float>(last);
  nb::gil_scoped_release release;
  auto work = [](void* p, int64_t first, int64_t last, float*) {
    chosen_kernels().dendritic_forward(*static_cast<Dendritic*>(p), first, last);
  };
  parallel(units_of(c), threads_for(B * L * D, threads), 0, work, &c);
}

// Gradients of the parameters are summed unit by unit and then in order, so the number of threads changes nothing.
void dendritic_backward(uintptr_t parameters, int pairs, uintptr_t x, uintptr_t state, uintptr_t grad_y, uintptr_t grad_last,
                        uintptr_t grad_x, uintptr_t grad_state, uintptr_t grad_parameters, int64_t B, int64_t L, int64_t D,
                        int threads) {
  Dendritic c = scan(parameters, pairs, B, L, D);
  c.x = at<const float>(x);
  c.state = at<const float>(state);
  c.grad_y = at<const float>(grad_y);
  c.grad_last = at<const float>(grad_last);
  c.grad_x = at<float>(grad_x);
  c.grad_state = at<float>(grad_state);
  nb::gil_scoped_release release;
  const int64_t units = units_of(c), numbers = 4 * pairs;
  std::vector<float> parts(units * numbers);
  c.grad_pairs = parts.data();
  const int64_t floats = (L / DENDRITIC_SEGMENT + 1 + DENDRITIC_SEGMENT) * 2 * pairs * chosen_kernels().width;
  auto work = [](void* p, int64_t first, int64_t last, float* scratch) {
    chosen_kernels().dendritic_backward(*static_cast<Dendritic*>(p), first, last, scratch);
  };
  parallel(units, threads_for(B * L * D, threads), floats, work, &c);
  std::vector<double> sums(numbers, 0.0);
  for (int64_t i = 0; i < units; ++i)
    for (int64_t k = 0; k < numbers; ++k) sums[k] += parts[i * numbers + k];
  float* out = at<float>(grad_parameters);
  for (int64_t k = 0; k < numbers; ++k) out[k] = static_cast<float>(sums[k]);
}

}  // namespace

void bind_dendritic(nb::module_& m) {
  m.def("dendritic_forward", &dendritic_forward);
  m.def("dendritic_backward", &dendritic_backward);
}

}  // namespace saccade
