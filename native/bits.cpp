// Spikes as bits for Python.
#include <atomic>
#include <cstring>

#include "bindings.h"

namespace saccade {

namespace {

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
  for (int j = 0; n > 0 && j < planes; ++j) std::memset(context.bits + (j + 1) * plane_bytes - 8, 0, 8);  // behind the last element
  auto work = [](void* p, int64_t first, int64_t last, float*) {
    auto& c = *static_cast<Context*>(p);
    if (!chosen_kernels().pack(c.x, c.type, c.grid, c.bits, c.plane_bytes, first * BITS_CHUNK, std::min(c.n, last * BITS_CHUNK)))
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
    chosen_kernels().unpack(c.bits, c.plane_bytes, c.grid, c.x, c.type, first * BITS_CHUNK, std::min(c.n, last * BITS_CHUNK));
  };
  parallel((n + BITS_CHUNK - 1) / BITS_CHUNK, threads_for(n, threads), 0, work, &context);
}

}  // namespace

void bind_bits(nb::module_& m) {
  m.def("pack", &pack);
  m.def("unpack", &unpack);
}

}  // namespace saccade
