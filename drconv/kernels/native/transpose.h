// Matrix transposes: how channel planes become rows of pixels and back, and how filters are packed.
#pragma once

#include "vectors.h"

namespace {

#if defined(__clang__)
#if DRCONV_LANES == 16
#define DRCONV_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define DRCONV_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif DRCONV_LANES == 8
#define DRCONV_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define DRCONV_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define DRCONV_LOW 0, 4, 1, 5
#define DRCONV_HIGH 2, 6, 3, 7
#endif
DRCONV_INLINE Vec interleave_low(Vec a, Vec b) { return __builtin_shufflevector(a, b, DRCONV_LOW); }
DRCONV_INLINE Vec interleave_high(Vec a, Vec b) { return __builtin_shufflevector(a, b, DRCONV_HIGH); }
#else
#if DRCONV_LANES == 16
constexpr IntVec kLow = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23};
constexpr IntVec kHigh = {8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
#elif DRCONV_LANES == 8
constexpr IntVec kLow = {0, 8, 1, 9, 2, 10, 3, 11};
constexpr IntVec kHigh = {4, 12, 5, 13, 6, 14, 7, 15};
#else
constexpr IntVec kLow = {0, 4, 1, 5};
constexpr IntVec kHigh = {2, 6, 3, 7};
#endif
DRCONV_INLINE Vec interleave_low(Vec a, Vec b) { return __builtin_shuffle(a, b, kLow); }
DRCONV_INLINE Vec interleave_high(Vec a, Vec b) { return __builtin_shuffle(a, b, kHigh); }
#endif

// Interleaving vector i with vector i + n/2 moves one bit of the row number into the column number; as many rounds as
// there are bits exchange the two.
DRCONV_INLINE void transpose_registers(Vec (&a)[kLanes]) {
  DRCONV_UNROLL for (int round = 1; round < kLanes; round *= 2) {
    Vec b[kLanes];
    DRCONV_UNROLL for (int i = 0; i < kLanes / 2; i++) {
      b[2 * i] = interleave_low(a[i], a[i + kLanes / 2]);
      b[2 * i + 1] = interleave_high(a[i], a[i + kLanes / 2]);
    }
    DRCONV_UNROLL for (int i = 0; i < kLanes; i++) a[i] = b[i];
  }
}

template <class From, class To>
inline void transpose_block(const From* from, Int from_stride, To* to, Int to_stride) {
  Vec a[kLanes];
  DRCONV_UNROLL for (int i = 0; i < kLanes; i++) a[i] = load(from + i * from_stride);
  transpose_registers(a);
  DRCONV_UNROLL for (int i = 0; i < kLanes; i++) store(to + i * to_stride, a[i]);
}

template <class From, class To>
inline void transpose_edge(const From* from, Int from_stride, Int rows, Int columns, To* to, Int to_stride) {
  if (!kCheapTails) {
    for (Int i = 0; i < rows; i++)
      for (Int j = 0; j < columns; j++) assign(to[j * to_stride + i], value(from[i * from_stride + j]));
    return;
  }
  const Tail across(columns), down(rows);
  Vec a[kLanes];
  DRCONV_UNROLL for (int i = 0; i < kLanes; i++) a[i] = i < rows ? load(from + i * from_stride, across) : Vec{};
  transpose_registers(a);
  DRCONV_UNROLL for (int i = 0; i < kLanes; i++) {
    if (i < columns) store(to + i * to_stride, a[i], down);
  }
}

// to[j][i] = from[i][j] for i < rows, j < columns; converts where source and target differ.
template <class From, class To>
inline void transpose(const From* from, Int from_stride, Int rows, Int columns, To* to, Int to_stride) {
  for (Int j = 0; j < columns; j += kLanes) {
    const Int wide = least(kLanes, columns - j);
    for (Int i = 0; i < rows; i += kLanes) {
      const Int high = least(kLanes, rows - i);
      const From* source = from + i * from_stride + j;
      To* target = to + j * to_stride + i;
      if (high == kLanes && wide == kLanes)
        transpose_block(source, from_stride, target, to_stride);
      else
        transpose_edge(source, from_stride, high, wide, target, to_stride);
    }
  }
}

}  // namespace
