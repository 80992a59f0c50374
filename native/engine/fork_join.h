// Two or more threads for pieces of work of some microseconds: the helpers spin for a while before they sleep.
#pragma once
#include <cstdint>

namespace saccade::engine {

using Piece = void (*)(void* context, int64_t first, int64_t last, int thread);
// Calls piece(context, ...) so that every unit in [0, units) is done once, in `pieces` parts at most, on up to `threads`
// threads. Only one caller at a time shares its work: another one works alone. So does a forked child.
void fork_join(int64_t units, int64_t pieces, int threads, Piece piece, void* context);
int most_threads();

}  // namespace saccade::engine
