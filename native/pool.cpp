// Average pooling for Python.
#include "bindings.h"

namespace saccade {

namespace {

void pool(uintptr_t from, uintptr_t to, int64_t rows, int64_t W, int64_t C, int k, bool back, int threads) {
  struct Context {
    Pool pool;
    int64_t rows;
  } context{{at<const float>(from), at<float>(to), W, C, k, back, rows * k * W * C * 4 >= STREAM_BYTES}, rows};
  nb::gil_scoped_release release;
  constexpr int64_t TOGETHER = 4;
  auto work = [](void* p, int64_t first, int64_t last, float*) {
    const auto& c = *static_cast<Context*>(p);
    chosen_kernels().pool(c.pool, first * TOGETHER, std::min(c.rows, last * TOGETHER));
  };
  parallel((rows + TOGETHER - 1) / TOGETHER, threads_for(rows * k * W * C, threads), 0, work, &context);
}

}  // namespace

void bind_pool(nb::module_& m) { m.def("pool", &pool); }

}  // namespace saccade
