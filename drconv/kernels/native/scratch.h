// Scratch memory: the caller's one block, cut into pieces. The same code run on no memory tells how much is needed.
#pragma once

#include "vectors.h"

namespace {

class Scratch {
 public:
  explicit Scratch(void* memory) : memory_(static_cast<char*>(memory)) {}

  template <class T>
  T* take(Int count) {
    T* piece = memory_ ? reinterpret_cast<T*>(memory_ + used_) : nullptr;
    used_ += round_up(count * static_cast<Int>(sizeof(T)), 64);
    return piece;
  }

  // Continues in the part of one thread: parts of `size` bytes follow each other.
  Scratch part(Int index, Int size) const { return Scratch(memory_ + used_ + index * size); }

  Int used() const { return used_; }

 private:
  char* memory_;
  Int used_ = 0;
};

}  // namespace
