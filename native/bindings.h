// What the bindings share. One file for each subject; tensors come as addresses, so that one binary serves every torch, and the
// callers in saccade/ check shapes, types and layouts.
#pragma once
#include <nanobind/nanobind.h>

#include <algorithm>
#include <cstdint>

#include "kernels.h"
#include "parallel.h"

namespace saccade {

namespace nb = nanobind;

void bind_lif(nb::module_& m);
void bind_bits(nb::module_& m);
void bind_pool(nb::module_& m);
void bind_dehazing(nb::module_& m);
void bind_events(nb::module_& m);
void bind_integer(nb::module_& m);
void bind_dendritic(nb::module_& m);
void bind_frames(nb::module_& m);
void bind_machine(nb::module_& m);

template <class T> T* at(uintptr_t address) { return reinterpret_cast<T*>(address); }

constexpr int64_t MEGABYTE = 1 << 20;
constexpr int64_t STREAM_BYTES = 16 * MEGABYTE;  // outputs that will not fit in the last cache go past it
#ifndef SACCADE_GRAIN
#define SACCADE_GRAIN 16384
#endif
constexpr int64_t GRAIN = SACCADE_GRAIN;  // elements that are worth a thread

inline int threads_for(int64_t elements, int threads) {
  return static_cast<int>(std::min<int64_t>(threads, std::max<int64_t>(1, elements / GRAIN)));
}

}  // namespace saccade
