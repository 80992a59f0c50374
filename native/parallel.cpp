#include "parallel.h"

#include <cstdlib>
#include <new>

#if defined(_WIN32)
#error "the native kernels are built on Linux and macOS"
#endif
#include <dlfcn.h>
#include <pthread.h>

namespace saccade {
namespace {

using Region = void (*)(void (*)(void*), void*, unsigned threads, unsigned flags);
using Number = int (*)();

// Looked up, not linked: a second OpenMP runtime beside torch's would double the threads. Without one: one thread.
Region region() {
  static const Region found = reinterpret_cast<Region>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
  return found;
}
Number thread_number() {
  static const Number found = reinterpret_cast<Number>(dlsym(RTLD_DEFAULT, "omp_get_thread_num"));
  return found;
}
Number thread_count() {
  static const Number found = reinterpret_cast<Number>(dlsym(RTLD_DEFAULT, "omp_get_num_threads"));
  return found;
}
Number in_parallel() {
  static const Number found = reinterpret_cast<Number>(dlsym(RTLD_DEFAULT, "omp_in_parallel"));
  return found;
}

// A forked child has the runtime's data but not its threads: waiting for them would never end.
bool forked = false;
const int watching = pthread_atfork(nullptr, nullptr, [] { forked = true; });

// Kept from call to call, so that small tensors do not pay for an allocation.
struct Scratch {
  float* data = nullptr;
  int64_t size = 0;
  ~Scratch() { std::free(data); }
  float* get(int64_t floats) {
    if (floats > size) {
      std::free(data);
      data = static_cast<float*>(std::aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64));
      size = data ? floats : 0;
      if (!data) throw std::bad_alloc();
    }
    return data;
  }
};
thread_local Scratch scratch;

struct Job {
  Work work;
  void* context;
  int64_t chunks, floats;
};

void share(void* data) {
  const Job& job = *static_cast<Job*>(data);
  const int64_t n = thread_count()(), i = thread_number()();
  const int64_t first = job.chunks * i / n, last = job.chunks * (i + 1) / n;
  if (first < last) job.work(job.context, first, last, scratch.get(job.floats));
}

}  // namespace

void parallel(int64_t chunks, int threads, int64_t floats, Work work, void* context) {
  if (chunks < threads) threads = static_cast<int>(chunks);
  const bool can = region() && thread_number() && thread_count() && in_parallel();
  if (threads > 1 && !forked && can && !in_parallel()()) {
    Job job{work, context, chunks, floats};
    region()(share, &job, static_cast<unsigned>(threads), 0);
  } else if (chunks > 0) {
    work(context, 0, chunks, scratch.get(floats));
  }
  (void)watching;
}

}  // namespace saccade
