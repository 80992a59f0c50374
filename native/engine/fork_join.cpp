#include "fork_join.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace saccade::engine {
namespace {

constexpr int MOST = 64;
constexpr int SPINS = 20000;  // about 0.2 ms: longer than what lies between the steps of a run

void rest() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

struct Pool {
  std::mutex busy;  // of the one caller
  std::mutex sleep;
  std::condition_variable wake;
  int helpers = 0, asleep = 0;
  // the work of now: `turn` counts the calls; a helper takes part by adding itself to `inside` while the turn is open
  Piece piece;
  void* context;
  int64_t units, pieces;
  std::atomic<int64_t> next{0};
  std::atomic<uint64_t> turn{0};   // odd while open
  std::atomic<int> inside{0}, wanted{0};

  void work(int thread) {
    for (;;) {
      const int64_t i = next.fetch_add(1, std::memory_order_relaxed);
      if (i >= pieces) return;
      piece(context, units * i / pieces, units * (i + 1) / pieces, thread);
    }
  }

  void help(int thread) {
    uint64_t seen = 0;
    for (;;) {
      int spins = 0;
      uint64_t now;
      while ((now = turn.load(std::memory_order_acquire)) == seen || !(now & 1)) {
        if (++spins < SPINS) {
          rest();
          continue;
        }
        std::unique_lock<std::mutex> lock(sleep);
        asleep++;
        wake.wait(lock, [&] { return (turn.load() & 1) && turn.load() != seen; });
        asleep--;
        spins = 0;
      }
      seen = now;
      if (thread > wanted.load(std::memory_order_relaxed)) continue;
      inside.fetch_add(1);
      if (turn.load() == now) work(thread);  // else the caller has gone on and must not be disturbed
      inside.fetch_sub(1, std::memory_order_release);
    }
  }
};

Pool* pool = nullptr;
std::mutex making;
// A forked child has the pool's memory but none of its threads.
bool forked = false;
const int watching = pthread_atfork(nullptr, nullptr, [] { forked = true; });

}  // namespace

int most_threads() { return forked ? 1 : MOST; }

void fork_join(int64_t units, int64_t pieces, int threads, Piece piece, void* context) {
  (void)watching;
  threads = std::min<int64_t>({threads, pieces, units, MOST});
  if (threads <= 1 || forked) {
    if (units > 0) piece(context, 0, units, 0);
    return;
  }
  if (!pool) {
    std::lock_guard<std::mutex> lock(making);
    if (!pool) pool = new Pool;  // never deleted: its threads wait in it until the process ends
  }
  std::unique_lock<std::mutex> mine(pool->busy, std::try_to_lock);
  if (!mine) {
    piece(context, 0, units, 0);
    return;
  }
  Pool& p = *pool;
  while (p.helpers < threads - 1) {
    const int number = ++p.helpers;
    std::thread([number] { pool->help(number); }).detach();
  }
  p.piece = piece, p.context = context, p.units = units, p.pieces = std::min(units, pieces);
  p.wanted.store(threads - 1, std::memory_order_relaxed);
  p.next.store(0, std::memory_order_relaxed);
  p.turn.fetch_add(1);  // opens
  bool sleeping;
  {
    // cheap when nobody sleeps: the lock is free
    std::lock_guard<std::mutex> lock(p.sleep);
    sleeping = p.asleep > 0;
  }
  if (sleeping) p.wake.notify_all();
  p.work(0);
  p.turn.fetch_add(1);  // closes: who has not come in stays out
  while (p.inside.load() != 0) rest();
}

}  // namespace saccade::engine
