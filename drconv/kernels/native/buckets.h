// Positions by region: the region of every position from its scores, and one list of positions per region.
#pragma once

#include "transpose.h"

namespace {

// The region with the largest score; the lowest of equals. NaN is largest and the first NaN wins, as in torch.argmax.
inline void argmax_planes(const float* scores, Int region_stride, Int regions, Int positions, int32_t* mask) {
  for (Int p = 0; p < positions; p += kLanes) {
    const Tail tail(positions - p);
    Vec best = load(scores + p, tail);
    IntVec where = {};
    for (Int j = 1; j < regions; j++) {
      const Vec score = load(scores + j * region_stride + p, tail);
      const IntVec better = (score > best) | ((score != score) & (best == best));
      best = better ? score : best;
      where = better ? IntVec{} + static_cast<int32_t>(j) : where;
    }
    store(mask + p, where, tail);
  }
}

#if DRCONV_LANES == 16
// The same for sixteen positions of eight scores each, side by side: two positions in a vector.
DRCONV_INLINE IntVec argmax_pairs(const float* scores) {
  Vec a[8], b[8];
  DRCONV_UNROLL for (int i = 0; i < 8; i++) a[i] = load(scores + i * kLanes);
  // The number of an element is position and region, four bits and three. Interleaving moves its highest bit, which is
  // the highest of the vector's number, to the end; after four rounds the region has become the vector's number.
  DRCONV_UNROLL for (int round = 0; round < 4; round++) {
    DRCONV_UNROLL for (int i = 0; i < 4; i++) {
      b[2 * i] = interleave_low(a[i], a[i + 4]);
      b[2 * i + 1] = interleave_high(a[i], a[i + 4]);
    }
    DRCONV_UNROLL for (int i = 0; i < 8; i++) a[i] = b[i];
  }
  Vec best = a[0];
  IntVec where = {};
  DRCONV_UNROLL for (int j = 1; j < 8; j++) {
    const IntVec better = (a[j] > best) | ((a[j] != a[j]) & (best == best));
    best = better ? a[j] : best;
    where = better ? IntVec{} + j : where;
  }
  return where;
}
#endif

// The same where the scores of a position lie side by side.
inline void argmax_rows(const float* scores, Int position_stride, Int regions, Int positions, int32_t* mask) {
  constexpr Int kMost = 64;
  if (regions > kMost) {
    for (Int p = 0; p < positions; p++) {
      const float* score = scores + p * position_stride;
      Int best = 0;
      for (Int j = 1; j < regions; j++)
        if (score[j] > score[best] || (score[j] != score[j] && score[best] == score[best])) best = j;
      mask[p] = static_cast<int32_t>(best);
    }
    return;
  }
  float planes[kMost * kLanes];
  Int p = 0;
#if DRCONV_LANES == 16
  if (regions == 8 && position_stride == 8)
    for (; p + kLanes <= positions; p += kLanes)
      store(mask + p, argmax_pairs(scores + p * 8), Tail(kLanes));
#endif
  for (; p < positions; p += kLanes) {
    const Int count = least(kLanes, positions - p);
    transpose(scores + p * position_stride, position_stride, count, regions, planes, kLanes);
    argmax_planes(planes, kLanes, regions, count, mask + p);
  }
}

// Scores of a batch: those of a position are region_stride apart.
struct Scores {
  const float* data;  // null where there is a mask instead
  Int batch_stride, region_stride, position_stride;

  // The regions of positions [first, first + count) of a sample.
  void regions_of(Int sample, Int first, Int count, Int regions, int32_t* mask) const {
    const float* from = data + sample * batch_stride + first * position_stride;
    if (position_stride == 1)
      argmax_planes(from, region_stride, regions, count, mask);
    else
      argmax_rows(from, position_stride, regions, count, mask);
  }
};

// Where forward passes find the region of a position.
struct Regions {
  const int32_t* mask;
  Scores scores;

  // Those of positions [first, first + count) of a sample with `all` positions; `room` is for `count` of them.
  const int32_t* of(Int sample, Int all, Int first, Int count, Int regions, int32_t* room) const {
    if (mask) return mask + sample * all + first;
    scores.regions_of(sample, first, count, regions, room);
    return room;
  }
};

// Sorts positions 0..count-1 by region, stable: those of region j are list[start[j]] to list[start[j + 1] - 1].
// `start` has regions + 1 elements, `next` has `regions`. False if a region index is out of range.
inline bool bucket(const int32_t* mask, Int count, Int regions, int32_t* list, Int* start, Int* next) {
  for (Int j = 0; j <= regions; j++) start[j] = 0;
#if defined(__AVX512F__)
  // No branch and no dependence on the mask. Beyond 16 regions the passes over the vector cost more than they save.
  if (regions <= 16) {
    for (Int i = 0; i < count; i += kLanes) {
      const Tail tail(count - i);
      const __m512i region = __m512i(load(mask + i, tail));
      for (Int j = 0; j < regions; j++)
        start[j + 1] += __builtin_popcount(
            _mm512_mask_cmpeq_epi32_mask(tail.mask, region, _mm512_set1_epi32(static_cast<int>(j))));
    }
    for (Int j = 0; j < regions; j++) {
      start[j + 1] += start[j];
      next[j] = start[j];
    }
    if (start[regions] != count) return false;
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    for (Int i = 0; i < count; i += kLanes) {
      const Tail tail(count - i);
      const __m512i region = __m512i(load(mask + i, tail));
      const __m512i position = _mm512_add_epi32(lane, _mm512_set1_epi32(static_cast<int>(i)));
      for (Int j = 0; j < regions; j++) {
        const __mmask16 here =
            _mm512_mask_cmpeq_epi32_mask(tail.mask, region, _mm512_set1_epi32(static_cast<int>(j)));
        const int found = __builtin_popcount(here);
        // Not the compressing store: on Zen 4 it is microcoded.
        store(list + next[j], IntVec(_mm512_maskz_compress_epi32(here, position)), Tail(found));
        next[j] += found;
      }
    }
    return true;
  }
#endif
  bool valid = true;
  for (Int i = 0; i < count; i++) {
    const bool inside = static_cast<uint32_t>(mask[i]) < static_cast<uint64_t>(regions);
    valid = valid && inside;
    if (inside) start[mask[i] + 1]++;
  }
  if (!valid) return false;
  for (Int j = 0; j < regions; j++) {
    start[j + 1] += start[j];
    next[j] = start[j];
  }
  for (Int i = 0; i < count; i++) list[next[mask[i]]++] = static_cast<int32_t>(i);
  return true;
}

}  // namespace
