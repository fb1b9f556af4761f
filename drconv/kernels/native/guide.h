// The 1x1 guide of the fused call: scores become regions in registers and are never stored.
#pragma once

#include "buckets.h"
#include "tiles.h"

namespace {

typedef float Eight __attribute__((vector_size(32)));
constexpr Int kEight = 8;

// Filters and biases of a 1x1 guide, regions innermost and filled up to a multiple of eight.
struct PointGuide {
  Int channels, regions, width;
  float *filter, *bias;

  PointGuide(Scratch& from, Int channels, Int regions)
      : channels(channels), regions(regions), width(round_up(regions, most(kEight, kLanes))),
        filter(from.take<float>(channels * width)), bias(from.take<float>(width)) {}

  void fill(const float* weight, Int region_stride, Int channel_stride, const float* given_bias) const {
    if (regions < width) zero(filter, channels * width);
    if (channel_stride == 1)
      transpose(weight, region_stride, regions, channels, filter, width);
    else
      for (Int c = 0; c < channels; c++)
        for (Int j = 0; j < regions; j++) filter[c * width + j] = weight[j * region_stride + c * channel_stride];
    zero(bias, width);
    if (given_bias) memcpy(bias, given_bias, static_cast<size_t>(regions) * sizeof(float));
  }
};

// The running argmax of some positions, by the rule of argmax_planes.
struct Best {
  Vec score;
  IntVec where;

  DRCONV_INLINE void first(Vec s) {
    score = s;
    where = IntVec{};
  }
  DRCONV_INLINE void next(Vec s, Int region) {
    const IntVec better = (s > score) | ((s != s) & (score == score));
    score = better ? s : score;
    where = better ? IntVec{} + static_cast<int32_t>(region) : where;
  }
};

// Vectors of pixels that share the reads of the filters.
#if defined(__AVX512F__)
constexpr int kGuideVectors = 3;
#else
constexpr int kGuideVectors = 1;
#endif

template <int kVectors, bool kMasked>
DRCONV_INLINE void guide_pixels(const PointGuide& guide, const float* planes, Int channel_stride, Tail tail,
                                int32_t* mask) {
  Best best[kVectors] = {};
  for (Int first = 0; first < guide.regions; first += kEight) {
    Vec sum[kEight][kVectors];
    DRCONV_UNROLL for (int j = 0; j < kEight; j++) {
      DRCONV_UNROLL for (int v = 0; v < kVectors; v++) sum[j][v] = splat(guide.bias[first + j]);
    }
    const float *filter = guide.filter + first, *plane = planes;
    for (Int c = 0; c < guide.channels; c++) {
      Vec x[kVectors];
      DRCONV_UNROLL for (int v = 0; v < kVectors; v++)
        x[v] = kMasked ? load(plane, tail) : load(plane + v * kLanes);
      DRCONV_UNROLL for (int j = 0; j < kEight; j++) {
        const float f = filter[j];
        DRCONV_UNROLL for (int v = 0; v < kVectors; v++) sum[j][v] += f * x[v];
      }
      plane += channel_stride;
      filter += guide.width;
    }
    DRCONV_UNROLL for (int j = 0; j < kEight; j++) {
      if (first + j < guide.regions) {
        DRCONV_UNROLL for (int v = 0; v < kVectors; v++) {
          if (first + j == 0)
            best[v].first(sum[j][v]);
          else
            best[v].next(sum[j][v], first + j);
        }
      }
    }
  }
  DRCONV_UNROLL for (int v = 0; v < kVectors; v++) {
    if (kMasked)
      store(mask, best[v].where, tail);
    else
      *reinterpret_cast<LooseIntVec*>(mask + v * kLanes) = best[v].where;
  }
}

// Regions of `count` pixels of channel planes.
inline void guide_planes(const PointGuide& guide, const float* planes, Int channel_stride, Int count, int32_t* mask) {
  constexpr Int kTogether = kGuideVectors * kLanes;
  Int p = 0;
  for (; p + kTogether <= count; p += kTogether)
    guide_pixels<kGuideVectors, false>(guide, planes + p, channel_stride, Tail(kLanes), mask + p);
  for (; p < count; p += kLanes)
    guide_pixels<1, true>(guide, planes + p, channel_stride, Tail(least(kLanes, count - p)), mask + p);
}

// Scores of eight pixels for up to eight regions.
DRCONV_INLINE void score_eight(const PointGuide& guide, const float* const (&row)[kEight], float* scores) {
  Eight sum[kEight];
  const Eight bias = load_all<Eight>(guide.bias);
  DRCONV_UNROLL for (int i = 0; i < kEight; i++) sum[i] = bias;
  const float* filter = guide.filter;
  for (Int c = 0; c < guide.channels; c++) {
    const Eight f = load_all<Eight>(filter);
    DRCONV_UNROLL for (int i = 0; i < kEight; i++) sum[i] += row[i][c] * f;
    filter += guide.width;
  }
  DRCONV_UNROLL for (int i = 0; i < kEight; i++) store_all(scores + i * kEight, sum[i]);
}

constexpr Int kScoreRows = 64;

// What `guide_rows` needs for more than eight regions.
struct ScoreMemory {
  float* scores;
  int32_t* index;

  ScoreMemory(Scratch& from, Int regions)
      : scores(from.take<float>(regions > kEight ? kScoreRows * regions : 0)),
        index(from.take<int32_t>(regions > kEight ? kScoreRows : 0)) {}
};

// Regions of `count` pixels that are rows of channels.
inline void guide_rows(const PointGuide& guide, const float* rows, Int stride, Int count, const ScoreMemory& memory,
                       int32_t* mask) {
  if (guide.regions > kEight) {
    static const Int offset = 0;
    TileCall call = {};
    call.row_stride = stride;
    call.tap_offset = &offset;
    call.taps = 1;
    call.depth = guide.channels;
    call.filter = guide.filter;
    call.depth_stride = guide.width;
    call.out = memory.scores;
    call.out_stride = guide.regions;
    call.row_index = call.out_index = memory.index;
    call.epilogue = {guide.bias, DRCONV_NO_ACTIVATION};
    for (Int i = 0; i < kScoreRows; i++) memory.index[i] = static_cast<int32_t>(i);
    for (Int p = 0; p < count; p += kScoreRows) {
      const Int some = least(kScoreRows, count - p);
      call.rows = rows + p * stride;
      multiply_rows(kStoreTiles, call, some, guide.regions, nullptr);
      argmax_rows(memory.scores, guide.regions, guide.regions, some, mask + p);
    }
    return;
  }
  constexpr Int kGroup = kLanes < kEight ? kEight : kLanes;
  for (Int p = 0; p < count; p += kGroup) {
    float scores[kGroup * kEight];
    for (Int i = 0; i < kGroup; i += kEight) {
      if (p + i >= count) break;
      const float* row[kEight];
      DRCONV_UNROLL for (int q = 0; q < kEight; q++) row[q] = rows + least(p + i + q, count - 1) * stride;
      score_eight(guide, row, scores + i * kEight);
    }
    for (Int i = 0; i < kGroup && p + i < count; i += kLanes) {
      Vec plane[kEight];
      DRCONV_UNROLL for (int j = 0; j < kEight; j++) plane[j] = load(scores + i * kEight + j * kLanes);
      // As transpose_registers, for a matrix of eight columns.
      DRCONV_UNROLL for (int round = 1; round < kLanes; round *= 2) {
        Vec mixed[kEight];
        DRCONV_UNROLL for (int j = 0; j < kEight / 2; j++) {
          mixed[2 * j] = interleave_low(plane[j], plane[j + kEight / 2]);
          mixed[2 * j + 1] = interleave_high(plane[j], plane[j + kEight / 2]);
        }
        DRCONV_UNROLL for (int j = 0; j < kEight; j++) plane[j] = mixed[j];
      }
      Best best;
      best.first(plane[0]);
      DRCONV_UNROLL for (int j = 1; j < kEight; j++) {
        if (j < guide.regions) best.next(plane[j], j);
      }
      store(mask + p + i, best.where, Tail(count - p - i));
    }
  }
}

}  // namespace
