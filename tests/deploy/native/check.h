// Programs for the engine without Python: made at random, or as a file has them.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "engine.h"

struct Given {
  std::string name;
  int64_t T = 1, N = 1;
  bool sequence = true, last = false;
  std::vector<saccade::engine::Wire> wires;
  std::vector<saccade::engine::Record> records;
  std::vector<saccade::engine::Term> terms;
  std::vector<double> offset, expected;  // answers of an interpreter, if there are some
  std::vector<uint8_t> x;                // [N, ...] or [T, N, ...]
};

// Adds a record and the wire that it makes.
void add(Given& to, std::string kind, std::vector<int> inputs, std::vector<int64_t> numbers,
         std::vector<saccade::engine::Array> arrays, saccade::engine::Sizes shape, int64_t low, int64_t high, int64_t steps);

Given random_layer(uint64_t seed);
Given sized_layer(int64_t in, int64_t out, int64_t side, int64_t bits, int64_t high, int64_t percent);
Given read_program(const char* path);  // throws std::runtime_error
