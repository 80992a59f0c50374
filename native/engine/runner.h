// A plan at work: the memory of its threads, and samples through it.
#pragma once
#include <mutex>

#include "engine.h"

namespace saccade::engine {

enum class Number : int { u8, i8, i16, i32, i64, f32, f64, boolean };

class Memory {  // one arena, aligned to pages
 public:
  explicit Memory(int64_t bytes);
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  char* data;
};

// What a stream keeps of its samples.
struct Kept {
  Kept() = default;
  Kept(const Kept&) = delete;
  Kept& operator=(const Kept&) = delete;
  std::vector<std::unique_ptr<Memory>> states;
  int64_t done = 0;
};

class Runner {
 public:
  Runner(std::unique_ptr<Plan> plan, std::vector<Term> terms, std::vector<double> offset, bool last);

  // Samples x [N, ...] (or [T, N, ...], `sequence`) to answers y: [N, K], or [T, N, K] with `steps`. False: numbers of x are not
  // whole, or outside the range of the input.
  bool run(const void* x, Number type, int64_t N, bool sequence, bool steps, double* y, int threads, Kept* kept = nullptr);
  bool load(const void* x, Number type, int64_t N, int64_t sample, bool sequence, char* arena) const;
  void time(int64_t rounds, int threads, double quantile, std::vector<double>& times);  // microseconds of steps, on what ran last
  void read(int wire, int64_t* to);  // a wire of the last sample that one thread ran
  int64_t outputs() const { return K_; }
  const Plan& plan() const { return *plan_; }
  int64_t bytes() const { return plan_->arena_bytes; }

 private:
  void sample(const Call& call, double* y, int64_t stride, bool steps, int threads);
  void answer(const Call& call, double* y, int64_t stride, bool steps) const;
  void need(int threads);

  std::unique_ptr<Plan> plan_;
  std::vector<Term> terms_;
  std::vector<double> offset_;
  bool last_;
  int64_t K_;
  std::vector<std::unique_ptr<Memory>> arenas_, scratches_;
  std::mutex mutex_;
};

}  // namespace saccade::engine
