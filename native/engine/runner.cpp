#include "runner.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>

#include "fork_join.h"

namespace saccade::engine {

Memory::Memory(int64_t bytes) {
  const size_t size = (static_cast<size_t>(std::max<int64_t>(bytes, 1)) + 4095) / 4096 * 4096;
  data = static_cast<char*>(std::aligned_alloc(4096, size));
  if (!data) throw std::bad_alloc();
  std::memset(data, 0, size);
}
Memory::~Memory() { std::free(data); }

Runner::Runner(std::unique_ptr<Plan> plan, std::vector<Term> terms, std::vector<double> offset, bool last)
    : plan_(std::move(plan)), terms_(std::move(terms)), offset_(std::move(offset)), last_(last) {
  K_ = static_cast<int64_t>(offset_.size());
  need(1);
}

void Runner::need(int threads) {
  while (static_cast<int>(arenas_.size()) < threads) {
    arenas_.push_back(std::make_unique<Memory>(plan_->arena_bytes));
    scratches_.push_back(std::make_unique<Memory>(plan_->scratch_bytes));
  }
}

namespace {

template <class T> bool take(const T* from, int64_t n, int64_t low, int64_t high, uint8_t* to) {
  bool good = true;
  for (int64_t i = 0; i < n; i++) {
    const T value = from[i];
    const bool inside = value >= static_cast<T>(low) && value <= static_cast<T>(high);  // false for NaN
    const uint8_t whole = static_cast<uint8_t>(inside ? value : T{0});
    good &= inside && static_cast<T>(whole) == value;
    to[i] = whole;
  }
  return good;
}

bool take_bytes(const uint8_t* from, int64_t n, int64_t high, uint8_t* to) {
  std::memcpy(to, from, n);
  if (high >= 255) return true;
  uint8_t most = 0;
  for (int64_t i = 0; i < n; i++) most = std::max(most, from[i]);
  return most <= high;
}

// Any number, to a type that is wider than bytes.
template <class T> bool take_wide(const T* from, int64_t n, int64_t low, int64_t high, const Plan& plan, const View& v,
                                  char* to) {
  int64_t row[CHUNK];
  for (int64_t start = 0; start < n; start += CHUNK) {
    const int64_t m = std::min(CHUNK, n - start);
    for (int64_t i = 0; i < m; i++) {
      const double value = static_cast<double>(from[start + i]);
      if (!(value >= static_cast<double>(low) && value <= static_cast<double>(high)) || value != std::floor(value)) return false;
      row[i] = static_cast<int64_t>(from[start + i]);
    }
    plan.kernels->narrow(row, m, to + start * bytes_of(v.type), v.type, 1);
  }
  return true;
}

template <class T> bool take_any(const void* x, int64_t place, int64_t n, const Plan& plan, const Wire& w, char* to) {
  const T* from = static_cast<const T*>(x) + place;
  // numbers of small types are compared as they are; bounds that they cannot hold bind nothing
  if (w.view->type != Type::u8) return take_wide(from, n, w.low, w.high, plan, *w.view, to);
  int64_t high = w.high;
  if constexpr (sizeof(T) == 1) high = std::min<int64_t>(high, std::is_signed_v<T> ? 127 : 255);
  return take(from, n, w.low, high, reinterpret_cast<uint8_t*>(to));
}

}  // namespace

bool Runner::load(const void* x, Number type, int64_t N, int64_t sample, bool sequence, char* arena) const {
  const Wire& w = plan_->wires[0];
  const View& v = *w.view;
  const int64_t n = product(w.shape), T = sequence ? w.steps : 1;
  for (int64_t t = 0; t < T; t++) {
    const int64_t place = (sequence ? t * N + sample : sample) * n;
    char* to = arena + plan_->buffers[v.buffer].offset + t * v.step * bytes_of(v.type);
    bool good = true;
    switch (type) {
      case Number::u8:
      case Number::boolean:
        good = v.type == Type::u8 ? take_bytes(static_cast<const uint8_t*>(x) + place, n, w.high, reinterpret_cast<uint8_t*>(to))
                                  : take_any<uint8_t>(x, place, n, *plan_, w, to);
        break;
      case Number::i8: good = take_any<int8_t>(x, place, n, *plan_, w, to); break;
      case Number::i16: good = take_any<int16_t>(x, place, n, *plan_, w, to); break;
      case Number::i32: good = take_any<int32_t>(x, place, n, *plan_, w, to); break;
      case Number::i64: good = take_any<int64_t>(x, place, n, *plan_, w, to); break;
      case Number::f32: good = take_any<float>(x, place, n, *plan_, w, to); break;
      case Number::f64: good = take_any<double>(x, place, n, *plan_, w, to); break;
    }
    if (!good) return false;
  }
  return true;
}

// As the interpreter sums them, in the same order: scale * wire + ... + offset, the mean over steps last.
void Runner::answer(const Call& c, double* y, int64_t stride, bool steps) const {
  const Plan& plan = *plan_;
  int64_t T = 1;
  for (const Wire& w : plan.wires) T = std::max(T, w.steps);
  for (int64_t k = 0; k < K_; k++) {
    double mean = 0, now = 0;
    for (int64_t t = 0; t < T; t++) {
      now = 0;
      for (const Term& term : terms_) {
        const View& v = *plan.wires[term.wire].view;
        int64_t rest = k, place = v.start + t * v.step;
        for (size_t i = v.size.size(); i-- > 0;) place += rest % v.size[i] * v.stride[i], rest /= v.size[i];
        const char* from = c.arena + plan.buffers[v.buffer].offset + place * bytes_of(v.type);
        int64_t value = 0;
        switch (v.type) {
          case Type::u8: value = *reinterpret_cast<const uint8_t*>(from); break;
          case Type::i16: value = *reinterpret_cast<const int16_t*>(from); break;
          case Type::i32: value = *reinterpret_cast<const int32_t*>(from); break;
          default: value = *reinterpret_cast<const int64_t*>(from);
        }
        now += term.scale[term.scale.size() == 1 ? 0 : k] * static_cast<double>(value);
      }
      now += offset_[k];
      if (steps) y[t * stride + k] = now;
      mean += now;
    }
    if (!steps) y[k] = last_ ? now : mean / static_cast<double>(T);
  }
}

void Runner::sample(const Call& call, double* y, int64_t stride, bool steps, int threads) {
  struct Context {
    const Step* step;
    Call call;
    const std::vector<std::unique_ptr<Memory>>* scratches;
  };
  for (const Step& step : plan_->steps) {
    if (step.before) step.before(call);
    if (threads == 1 || step.units == 1) {
      step.run(call, 0, step.units);
      continue;
    }
    Context context{&step, call, &scratches_};
    fork_join(step.units, step.pieces, threads, [](void* data, int64_t first, int64_t last, int thread) {
      const Context& its = *static_cast<Context*>(data);
      Call mine = its.call;
      mine.scratch = (*its.scratches)[thread]->data;
      its.step->run(mine, first, last);
    }, &context);
  }
  answer(call, y, stride, steps);
}

bool Runner::run(const void* x, Number type, int64_t N, bool sequence, bool steps, double* y, int threads, Kept* kept) {
  std::lock_guard<std::mutex> lock(mutex_);
  threads = std::max(1, std::min(threads, most_threads()));
  need(threads);
  if (kept) {
    while (static_cast<int64_t>(kept->states.size()) < N) kept->states.push_back(std::make_unique<Memory>(plan_->state_bytes));
  }
  const auto call = [&](int64_t sample, int thread) {
    return Call{arenas_[thread]->data, kept ? kept->states[sample]->data : nullptr, kept ? kept->done : 0,
                scratches_[thread]->data};
  };
  const auto place = [&](int64_t sample) { return y + sample * K_; };
  if (N < 2 * threads || threads == 1) {  // all threads in each sample
    for (int64_t i = 0; i < N; i++) {
      const Call c = call(i, 0);
      if (!load(x, type, N, i, sequence, c.arena)) return false;
      sample(c, place(i), N * K_, steps, threads);
    }
  } else {
    struct Context {
      Runner* runner;
      const std::function<bool(int64_t, int)>* one;
      std::atomic<bool> good{true};
    };
    const std::function<bool(int64_t, int)> one = [&](int64_t i, int thread) {
      const Call c = call(i, thread);
      if (!load(x, type, N, i, sequence, c.arena)) return false;
      sample(c, place(i), N * K_, steps, 1);
      return true;
    };
    Context context{this, &one};
    fork_join(N, N, threads, [](void* data, int64_t first, int64_t last, int thread) {
      Context& its = *static_cast<Context*>(data);
      for (int64_t i = first; i < last; i++)
        if (its.good && !(*its.one)(i, thread)) its.good = false;
    }, &context);
    if (!context.good) return false;
  }
  if (kept) kept->done += plan_->T;
  return true;
}

void Runner::time(int64_t rounds, int threads, double quantile, std::vector<double>& found) {
  std::lock_guard<std::mutex> lock(mutex_);
  need(threads);
  const Call call{arenas_[0]->data, nullptr, 0, scratches_[0]->data};
  std::vector<std::vector<double>> took(plan_->steps.size());
  struct Context {
    const Step* step;
    Call call;
    const std::vector<std::unique_ptr<Memory>>* scratches;
  };
  for (int64_t r = 0; r < rounds; r++)
    for (size_t i = 0; i < plan_->steps.size(); i++) {
      const Step& step = plan_->steps[i];
      const auto begin = std::chrono::steady_clock::now();
      if (step.before) step.before(call);
      Context context{&step, call, &scratches_};
      fork_join(step.units, step.pieces, threads, [](void* data, int64_t first, int64_t last, int thread) {
        const Context& its = *static_cast<Context*>(data);
        Call mine = its.call;
        mine.scratch = (*its.scratches)[thread]->data;
        its.step->run(mine, first, last);
      }, &context);
      took[i].push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count());
    }
  for (auto& times : took) {
    std::sort(times.begin(), times.end());
    found.push_back(times[static_cast<size_t>(quantile * static_cast<double>(times.size() - 1))]);
  }
}

void Runner::read(int wire, int64_t* to) {
  std::lock_guard<std::mutex> lock(mutex_);
  const Wire& w = plan_->wires[wire];
  const View& v = *w.view;
  const Nest loops = nest(v.size, {contiguous(v.size), v.stride});
  const int64_t n = product(v.size);
  for (int64_t t = 0; t < w.steps; t++)
    loops.each(0, loops.units(), [&](const int64_t* at, int64_t m) {
      plan_->kernels->widen(arenas_[0]->data + plan_->buffers[v.buffer].offset + (v.start + at[1] + t * v.step) * bytes_of(v.type),
                            v.type, loops.step(1), m, to + t * n + at[0]);
    });
}

}  // namespace saccade::engine
