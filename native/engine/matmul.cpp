// a [..., L, d] @ b [..., d, M].
#include <algorithm>

#include "engine.h"

namespace saccade::engine {
namespace {

void matmul(Plan& plan, int wire) {
  const Record record = plan.records[wire];
  const Wire& w = plan.wires[wire];
  const View a = plan.view(record.inputs[0]), b = plan.view(record.inputs[1]);
  const View made = plan.allocate(w, narrowest(w.low, w.high));
  plan.wires[wire].view = made;
  const size_t dims = w.shape.size();
  const int64_t L = w.shape[dims - 2], M = w.shape[dims - 1], d = a.size.back(), T = w.steps;
  Sizes lead(w.shape.begin(), w.shape.end() - 2);
  const auto leading = [&](const View& v) {
    return repeated(Sizes(v.size.begin(), v.size.end() - 2), Sizes(v.stride.begin(), v.stride.end() - 2), lead);
  };
  const Sizes at_a = leading(a), at_b = leading(b);
  const int64_t products = product(lead), row_a = a.stride[a.stride.size() - 2], in_a = a.stride.back(),
                row_b = b.stride[b.stride.size() - 2], in_b = b.stride.back();
  plan.scratch(8 * (d * M + d + M));
  plan.add(wire, "matrix products", T * products, [=, &plan](const Call& c, int64_t first, int64_t last) {
    int64_t *right = reinterpret_cast<int64_t*>(c.scratch), *left = right + d * M, *row = left + d;
    const int64_t size_a = bytes_of(a.type), size_b = bytes_of(b.type);
    for (int64_t u = first; u < last; u++) {
      const int64_t t = u / products;
      int64_t rest = u % products, from_a = t * a.step, from_b = t * b.step;
      const int64_t to = t * made.step + rest * L * M;
      for (size_t i = lead.size(); i-- > 0;) {
        from_a += rest % lead[i] * at_a[i], from_b += rest % lead[i] * at_b[i];
        rest /= lead[i];
      }
      for (int64_t k = 0; k < d; k++)
        plan.kernels->widen(plan.at(c, b) + (from_b + k * row_b) * size_b, b.type, in_b, M, right + k * M);
      for (int64_t l = 0; l < L; l++) {
        plan.kernels->widen(plan.at(c, a) + (from_a + l * row_a) * size_a, a.type, in_a, d, left);
        plan.kernels->matmul(left, right, row, d, M);
        plan.kernels->narrow(row, M, plan.at(c, made) + (to + l * M) * bytes_of(made.type), made.type, 1);
      }
    }
  });
}

const Registered known{"matmul", matmul};

}  // namespace
}  // namespace saccade::engine
