// Work in chunks over the threads of the OpenMP runtime that torch has loaded.
#pragma once
#include <cstdint>

namespace saccade {

// Calls work(context, first, last, scratch) so that every chunk in [0, chunks) is done once, on up to `threads` threads.
// `scratch` points to `floats` floats of the thread's own, aligned to 64 bytes.
using Work = void (*)(void* context, int64_t first, int64_t last, float* scratch);
void parallel(int64_t chunks, int threads, int64_t floats, Work work, void* context);

}  // namespace saccade
