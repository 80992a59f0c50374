// OpenMP's parallel regions on std::thread. ThreadSanitizer follows these; libgomp, which torch brings without instrumentation,
// waits by futexes that it does not see, and every region would be called a race. Preloaded by `make tsan` only.
#include <thread>
#include <vector>

namespace {
thread_local int number = 0, team = 1;
thread_local bool inside = false;
}  // namespace

extern "C" {

void GOMP_parallel(void (*function)(void*), void* data, unsigned threads, unsigned) {
  const int before = number, size = team;
  const bool was = inside;
  if (was || threads < 1) threads = 1;
  auto work = [&](int i) {
    number = i;
    team = static_cast<int>(threads);
    inside = threads > 1;
    function(data);
  };
  std::vector<std::thread> others;
  for (unsigned i = 1; i < threads; ++i) others.emplace_back(work, i);
  work(0);
  for (std::thread& thread : others) thread.join();
  number = before;
  team = size;
  inside = was;
}

int omp_get_thread_num() { return number; }
int omp_get_num_threads() { return team; }
int omp_in_parallel() { return inside; }
}
